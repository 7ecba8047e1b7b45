/* A CUDA runtime and driver without a GPU: "device" memory is host memory, a stream is a list of copies and kernels that
   happen when it is waited for, a graph is such a list. It writes down in which order streams were given work and waited
   for ("1:in 1:net 1:out 1:wait": copy in, kernel, copy out, wait, of the first stream that was made), counts calls,
   knows what was not given back, fails wherever a test asks it to, and takes one call at a time: Python frees what was
   forgotten from any thread. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 64, LINE = 1 << 16, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, UNKNOWN = 999 };
enum { DEVICE = 1, PINNED, STREAM, GRAPH, EXECUTABLE };

typedef struct { float scale[3], offset[3]; int columns; } Net; /* of each channel; columns: of the ramp that is added */
typedef struct { void *target; const void *source; size_t nbytes; const char *what; Net net; size_t width; } Operation;
typedef struct { Operation operations[MAX]; int count; } Graph;
typedef struct { Graph waiting; int number; } Stream;

static struct { void *handle; int kind; } live[MAX];
static struct { char name[64]; int calls; } called[MAX];
static char failing[64];
static int failing_code, last_error;
static Graph *capturing;
static Stream *captured; /* the stream that records into it */
static char order[LINE];
static int streams;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int lock(void) { return pthread_mutex_lock(&turn); }
static void unlock(int *held) { if (!*held) pthread_mutex_unlock(&turn); }

#define ALONE() __attribute__((cleanup(unlock), unused)) int held = lock()
#define ENTER() ALONE(); do { int code = enter(__func__); if (code) return code; } while (0)

void fake_fail(const char *name, int code) { ALONE(); strncpy(failing, name, sizeof failing - 1); failing_code = code; }

int fake_calls(const char *name) {
  ALONE();
  for (int i = 0; i < MAX; i++) if (!strcmp(called[i].name, name)) return called[i].calls;
  return 0;
}

int fake_live(void) {
  ALONE();
  int count = 0;
  for (int i = 0; i < MAX; i++) count += live[i].handle != NULL;
  return count;
}

static int enter(const char *name) {
  int i = 0;
  while (i < MAX && called[i].name[0] && strcmp(called[i].name, name)) i++;
  if (i == MAX) return last_error = UNKNOWN;
  strncpy(called[i].name, name, sizeof called[i].name - 1);
  called[i].calls++;
  if (strcmp(failing, name)) return 0;
  return last_error = failing_code;
}

static int give(void **out, size_t nbytes, int kind) {
  for (int i = 0; i < MAX; i++)
    if (!live[i].handle) {
      live[i].kind = kind;
      *out = live[i].handle = calloc(1, nbytes);
      return 0;
    }
  return last_error = OUT_OF_MEMORY;
}

static int take(void *handle, int kind) {
  for (int i = 0; i < MAX; i++)
    if (handle && live[i].handle == handle && live[i].kind == kind) {
      free(handle);
      live[i].handle = NULL;
      return 0;
    }
  return last_error = INVALID_VALUE; /* freed twice, or never given out */
}

static void perform(const Operation *it) {
  if (strcmp(it->what, "net")) memcpy(it->target, it->source, it->nbytes);
  else for (size_t i = 0; i < it->nbytes; i++) {
    const float level = ((const unsigned char *)it->source)[i] * it->net.scale[i % 3] + it->net.offset[i % 3];
    const size_t column = i / 3 % it->width;
    ((unsigned char *)it->target)[i] = (unsigned char)(level + (it->net.columns ? column % it->net.columns : 0));
  }
}

static void note(const Stream *stream, const char *what) {
  size_t used = strlen(order);
  snprintf(order + used, sizeof order - used, "%s%d:%s", used ? " " : "", stream->number, what);
}

static void enqueue(Stream *stream, Operation it) {
  Graph *list = captured == stream ? capturing : &stream->waiting;
  if (captured != stream) note(stream, it.what);
  if (list->count < MAX) list->operations[list->count++] = it;
}

static void finish(Stream *stream) {
  for (int i = 0; i < stream->waiting.count; i++) perform(&stream->waiting.operations[i]);
  stream->waiting.count = 0;
}

static void finish_all(void) { /* as CUDA does before it frees memory */
  for (int i = 0; i < MAX; i++) if (live[i].handle && live[i].kind == STREAM) finish(live[i].handle);
}

const char *fake_order(void) { ALONE(); return order; }

void fake_kernel(void *stream, void *target, const void *source, size_t nbytes, const Net *net, size_t width) {
  ALONE();
  enqueue(stream, (Operation){target, source, nbytes, "net", *net, width});
}

const char *cudaGetErrorString(int code) { return code == OUT_OF_MEMORY ? "out of memory" : "a made-up reason"; }
int cudaGetLastError(void) { ALONE(); int code = last_error; last_error = 0; return code; }
int cudaGetDeviceCount(int *count) { ENTER(); *count = 1; return 0; }
int cudaDeviceGetAttribute(int *value, int which, int device) { ENTER(); *value = which == 75 ? 8 : 7; return device; }
int cudaMalloc(void **out, size_t nbytes) { ENTER(); return give(out, nbytes, DEVICE); }
int cudaHostAlloc(void **out, size_t nbytes, unsigned flags) { ENTER(); return flags ? INVALID_VALUE : give(out, nbytes, PINNED); }
int cudaFree(void *handle) { ENTER(); finish_all(); return take(handle, DEVICE); }
int cudaFreeHost(void *handle) { ENTER(); finish_all(); return take(handle, PINNED); }
int cudaStreamDestroy(void *handle) { ENTER(); return take(handle, STREAM); }

int cudaStreamCreateWithFlags(void **out, unsigned flags) {
  ENTER();
  int code = flags == 1 ? give(out, sizeof(Stream), STREAM) : INVALID_VALUE;
  if (!code) ((Stream *)*out)->number = ++streams;
  return code;
}

int cudaStreamSynchronize(void *stream) {
  ENTER();
  if (!stream) return INVALID_VALUE;
  note(stream, "wait");
  finish(stream);
  return 0;
}

int cudaMemcpyAsync(void *target, const void *source, size_t nbytes, int kind, void *stream) {
  ENTER();
  if (!stream || (kind != 1 && kind != 2)) return INVALID_VALUE;
  enqueue(stream, (Operation){target, source, nbytes, kind == 1 ? "in" : "out", {{0}, {0}, 0}, 1});
  return 0;
}

int cudaStreamBeginCapture(void *stream, int mode) {
  ENTER();
  captured = stream;
  return stream && mode == 1 ? give((void **)&capturing, sizeof(Graph), GRAPH) : INVALID_VALUE;
}

int cudaStreamEndCapture(void *stream, void **out) {
  ALONE();
  Graph *graph = capturing;
  capturing = NULL;
  captured = NULL;
  *out = NULL;
  int code = enter(__func__);
  if (code) take(graph, GRAPH); /* as CUDA does: a capture that ends badly leaves no graph */
  else *out = graph;
  return code ? code : stream ? 0 : INVALID_VALUE;
}

int cudaGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) {
  ENTER();
  int code = flags ? INVALID_VALUE : give(out, sizeof(Graph), EXECUTABLE);
  if (!code) memcpy(*out, graph, sizeof(Graph));
  return code;
}

int cudaGraphLaunch(void *executable, void *stream) {
  ENTER();
  const Graph *graph = executable;
  if (!stream) return INVALID_VALUE;
  for (int i = 0; i < graph->count; i++) enqueue(stream, graph->operations[i]);
  return 0;
}

int cudaGraphDestroy(void *graph) { ENTER(); return take(graph, GRAPH); }
int cudaGraphExecDestroy(void *executable) { ENTER(); return take(executable, EXECUTABLE); }

int cuInit(unsigned flags) { ENTER(); return (int)flags; }
int cuDeviceGet(int *device, int ordinal) { ENTER(); *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { ENTER(); strncpy(name, "Fake Orin", (size_t)length); return device; }
