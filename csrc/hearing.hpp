// What C libraries print on stderr while they decode, for the thread that asks.
#pragma once

#include <string>

namespace cyclegan_edge {

void start_hearing();        // from here on, what this thread prints through C's stderr is kept and not shown
std::string stop_hearing();  // what it printed since, at most the first 1000 bytes; empty without glibc

}  // namespace cyclegan_edge
