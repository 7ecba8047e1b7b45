#include "hearing.hpp"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <utility>

// libjpeg inside OpenCV and libtiff inside Pillow know no other place than stderr, which glibc lets a program set like any
// variable. While a thread hears, it is a stream that keeps what that thread prints and hands on what the others do. File
// descriptor 2 stays what it was, so nothing that Python or a crash writes there is ever held back.

namespace cyclegan_edge {
namespace {

constexpr std::size_t kMost = 1000;  // bytes kept

thread_local bool hearing = false;
thread_local std::string heard;

#if defined(__GLIBC__)
std::mutex guard;
int listeners = 0;
std::FILE* usual = nullptr;  // what stderr was

ssize_t keep_or_hand_on(void*, const char* text, std::size_t length) {
  if (hearing)
    heard.append(text, std::min(length, kMost - heard.size()));
  else if (std::FILE* other = __atomic_load_n(&usual, __ATOMIC_ACQUIRE))
    std::fwrite(text, 1, length, other);
  return static_cast<ssize_t>(length);
}

std::FILE* open_stream() {  // never closed: another thread may be about to print on it
  std::FILE* stream = fopencookie(nullptr, "w", {nullptr, &keep_or_hand_on, nullptr, nullptr});
  if (stream) std::setvbuf(stream, nullptr, _IONBF, 0);
  return stream;
}

void exchange(int change) {
  static std::FILE* const stream = open_stream();
  const std::lock_guard lock(guard);
  if (listeners == 0 && stderr != stream) __atomic_store_n(&usual, stderr, __ATOMIC_RELEASE);
  listeners += change;
  if (stream && usual) __atomic_store_n(&stderr, listeners ? stream : usual, __ATOMIC_RELEASE);
}
#else
void exchange(int) {}
#endif

}  // namespace

void start_hearing() {
  heard.clear();
  if (!hearing) exchange(+1);
  hearing = true;
}

std::string stop_hearing() {
  if (hearing) exchange(-1);
  hearing = false;
  return std::exchange(heard, {});
}

}  // namespace cyclegan_edge
