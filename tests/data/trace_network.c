// Preloaded into a process, appends a line to the file $TRACE_NETWORK for every look-up of a host and every socket that
// can leave the machine. Used by tests/test_privacy.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *detail) {
  const char *path = getenv("TRACE_NETWORK");
  int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
  if (file < 0) return;
  dprintf(file, "%s %s\n", what, detail);
  close(file);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
  int (*original)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
  note("getaddrinfo", node ? node : "");
  return original(node, service, hints, result);
}

int socket(int domain, int type, int protocol) {
  int (*original)(int, int, int) = dlsym(RTLD_NEXT, "socket");
  if (domain == AF_INET || domain == AF_INET6) note("socket", domain == AF_INET ? "IPv4" : "IPv6");
  return original(domain, type, protocol);
}
