// The part of the DLPack ABI (github.com/dmlc/dlpack, version 0.8) that is needed to write into somebody's tensor.
#pragma once

#include <cstdint>

namespace cyclegan_edge::dlpack {

enum Device : std::int32_t { kCpu = 1, kCudaHost = 3, kRocmHost = 11 };  // those whose memory the CPU may write
enum Code : std::uint8_t { kUnsigned = 1, kFloat = 2 };

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  std::int32_t device;
  std::int32_t device_id;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: packed
  std::uint64_t byte_offset;
};

struct ManagedTensor {  // what a capsule named "dltensor" points to; the capsule frees it
  Tensor tensor;
  void* manager;
  void (*deleter)(ManagedTensor*);
};

}  // namespace cyclegan_edge::dlpack
