/* A CUDA runtime and driver without a GPU: "device" memory is host memory, a stream is a list of copies and kernels that
   happen when it is waited for, a graph is such a list. It counts calls, knows what was not given back, fails wherever a
   test asks it to, and takes one call at a time: Python frees what was forgotten from any thread. */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 64, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, UNKNOWN = 999 };
enum { DEVICE = 1, PINNED, STREAM, GRAPH, EXECUTABLE };

typedef struct { void *target; const void *source; size_t nbytes; int invert; } Operation;
typedef struct { Operation operations[MAX]; int count; } Graph;

static struct { void *handle; int kind; } live[MAX];
static struct { char name[64]; int calls; } called[MAX];
static char failing[64];
static int failing_code, last_error;
static Graph *capturing, waiting;
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
  waiting.count = 0;
  for (int i = 0; i < MAX; i++)
    if (handle && live[i].handle == handle && live[i].kind == kind) {
      free(handle);
      live[i].handle = NULL;
      return 0;
    }
  return last_error = INVALID_VALUE; /* freed twice, or never given out */
}

static void perform(const Operation *it) {
  if (!it->invert) memcpy(it->target, it->source, it->nbytes);
  else for (size_t i = 0; i < it->nbytes; i++)
    ((unsigned char *)it->target)[i] = 255 - ((const unsigned char *)it->source)[i];
}

static void enqueue(Operation it) {
  Graph *list = capturing ? capturing : &waiting;
  if (list->count < MAX) list->operations[list->count++] = it;
}

void fake_kernel(void *target, const void *source, size_t nbytes) {
  ALONE();
  enqueue((Operation){target, source, nbytes, 1});
}

const char *cudaGetErrorString(int code) { return code == OUT_OF_MEMORY ? "out of memory" : "a made-up reason"; }
int cudaGetLastError(void) { ALONE(); int code = last_error; last_error = 0; return code; }
int cudaGetDeviceCount(int *count) { ENTER(); *count = 1; return 0; }
int cudaDeviceGetAttribute(int *value, int which, int device) { ENTER(); *value = which == 75 ? 8 : 7; return device; }
int cudaMalloc(void **out, size_t nbytes) { ENTER(); return give(out, nbytes, DEVICE); }
int cudaHostAlloc(void **out, size_t nbytes, unsigned flags) { ENTER(); return flags ? INVALID_VALUE : give(out, nbytes, PINNED); }
int cudaFree(void *handle) { ENTER(); return take(handle, DEVICE); }
int cudaFreeHost(void *handle) { ENTER(); return take(handle, PINNED); }
int cudaStreamCreateWithFlags(void **out, unsigned flags) { ENTER(); return flags == 1 ? give(out, 1, STREAM) : INVALID_VALUE; }
int cudaStreamDestroy(void *handle) { ENTER(); return take(handle, STREAM); }

int cudaStreamSynchronize(void *stream) {
  ENTER();
  for (int i = 0; i < waiting.count; i++) perform(&waiting.operations[i]);
  waiting.count = 0;
  return stream ? 0 : INVALID_VALUE;
}

int cudaMemcpyAsync(void *target, const void *source, size_t nbytes, int kind, void *stream) {
  ENTER();
  if (!stream || (kind != 1 && kind != 2)) return INVALID_VALUE;
  enqueue((Operation){target, source, nbytes, 0});
  return 0;
}

int cudaStreamBeginCapture(void *stream, int mode) {
  ENTER();
  return stream && mode == 1 ? give((void **)&capturing, sizeof(Graph), GRAPH) : INVALID_VALUE;
}

int cudaStreamEndCapture(void *stream, void **out) {
  ALONE();
  Graph *graph = capturing;
  capturing = NULL;
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
  for (int i = 0; i < graph->count; i++) enqueue(graph->operations[i]);
  return stream ? 0 : INVALID_VALUE;
}

int cudaGraphDestroy(void *graph) { ENTER(); return take(graph, GRAPH); }
int cudaGraphExecDestroy(void *executable) { ENTER(); return take(executable, EXECUTABLE); }

int cuInit(unsigned flags) { ENTER(); return (int)flags; }
int cuDeviceGet(int *device, int ordinal) { ENTER(); *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { ENTER(); strncpy(name, "Fake Orin", (size_t)length); return device; }
