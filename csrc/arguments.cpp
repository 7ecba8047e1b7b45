#include "arguments.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "cpu.hpp"
#include "dlpack.hpp"

namespace py = pybind11;

namespace cyclegan_edge {
namespace {

std::string text(py::handle value) { return py::str(value).cast<std::string>(); }
std::string type_name(py::handle value) { return text(py::type::handle_of(value).attr("__name__")); }

std::string text(const std::vector<std::ptrdiff_t>& shape) {
  std::string joined;
  for (const std::ptrdiff_t side : shape) joined += (joined.empty() ? "(" : ", ") + std::to_string(side);
  return joined + ")";
}

// `shape` is how the caller should write it, such as "(height, width)".
template <std::size_t Count>
std::array<long long, Count> as_integers(const py::object& object, const std::string& name, const std::string& shape) {
  const std::string expected = ", expected " + shape + " as whole numbers of pixels.";
  if (!py::isinstance<py::sequence>(object) || py::isinstance<py::str>(object))
    throw py::type_error(name + " is a " + type_name(object) + expected);
  const py::sequence sequence = py::reinterpret_borrow<py::sequence>(object);
  if (sequence.size() != Count) throw py::value_error(name + " is " + text(object) + expected);
  std::array<long long, Count> values{};
  for (std::size_t i = 0; i < Count; ++i) {
    const py::object value = sequence[i];
    const py::object whole = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!whole) {
      PyErr_Clear();
      throw py::type_error(name + " is " + text(object) + expected);
    }
    int overflow = 0;
    values[i] = PyLong_AsLongLongAndOverflow(whole.ptr(), &overflow);
    if (overflow != 0) values[i] = overflow < 0 ? -kLargestSide - 1 : 2LL * kLargestSide;  // refused by the caller
  }
  return values;
}

std::string isa_names() {
  std::string joined = "auto";
  for (const Kernels* kernels : available_kernels()) joined += std::string(", ") + kernels->name;
  return joined;
}

const Kernels& named_kernels(const std::string& isa, const std::string& where) {
  if (isa == "auto") return *available_kernels().back();
  const Kernels* kernels = find_kernels(isa);
  if (!kernels)
    throw py::value_error(where + " is \"" + isa + "\", but this CPU and this build have: " + isa_names() +
                          "; choose one of them.");
  return *kernels;
}

std::ptrdiff_t bytes_per_value(Format format) {
  return format == Format::floats ? static_cast<std::ptrdiff_t>(sizeof(float)) : 1;
}

std::string dtype_name(Format format) { return format == Format::floats ? "float32" : "uint8"; }

Output from_buffer(const py::object& out, Format format) {
  py::buffer_info info;
  try {
    info = py::reinterpret_borrow<py::buffer>(out).request(true);
  } catch (const py::error_already_set&) {
    throw py::value_error("out is read-only, expected memory that can be written; pass a copy.");
  }
  const std::string kind = format == Format::floats ? py::format_descriptor<float>::format()
                                                    : py::format_descriptor<std::uint8_t>::format();
  if (info.format != kind)
    throw py::value_error("out has the buffer format \"" + info.format + "\", expected " + dtype_name(format) +
                          "; make it with that dtype.");
  return {out, py::memoryview(py::reinterpret_borrow<py::buffer>(out)), info.ptr,
          {info.shape.begin(), info.shape.end()}, {info.strides.begin(), info.strides.end()}};
}

Output from_dlpack(const py::object& out, Format format) {
  py::object capsule;
  try {
    capsule = out.attr("__dlpack__")();
  } catch (py::error_already_set& error) {
    throw py::value_error("out cannot be shared (" + text(error.value()) + "); pass a plain CPU tensor.");
  }
  const auto* managed = static_cast<const dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) throw py::error_already_set();
  const dlpack::Tensor& tensor = managed->tensor;
  if (tensor.device != dlpack::kCpu && tensor.device != dlpack::kCudaHost && tensor.device != dlpack::kRocmHost)
    throw py::value_error("out is on a device that the CPU cannot write; pass a CPU tensor, pinned if you like.");
  const bool floats = format == Format::floats;
  if (tensor.dtype.code != (floats ? dlpack::kFloat : dlpack::kUnsigned) || tensor.dtype.bits != (floats ? 32 : 8) ||
      tensor.dtype.lanes != 1)
    throw py::value_error("out has another dtype than the expected " + dtype_name(format) + "; make it with that dtype.");
  Output output{out, capsule, static_cast<std::uint8_t*>(tensor.data) + tensor.byte_offset, {}, {}};
  output.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  output.strides.resize(output.shape.size());
  std::ptrdiff_t packed = bytes_per_value(format);
  for (std::size_t i = output.shape.size(); i-- > 0; packed *= output.shape[i])
    output.strides[i] = tensor.strides ? tensor.strides[i] * bytes_per_value(format) : packed;
  return output;
}

void check_strides(const Output& output, Format format) {
  const std::size_t last = output.shape.size() - 1;
  const std::ptrdiff_t item = bytes_per_value(format);
  bool good = output.strides[last] == item || output.shape[last] == 1;
  if (format == Format::bytes) good = good && (output.strides[last - 1] == kChannels || output.shape[last - 1] == 1);
  for (const std::ptrdiff_t stride : output.strides) good = good && stride >= 0 && stride % item == 0;
  if (!good || reinterpret_cast<std::uintptr_t>(output.data) % static_cast<std::uintptr_t>(item) != 0)
    throw py::value_error("out has strides " + text(output.strides) +
                          ", expected packed rows from top to bottom; pass a contiguous array, or a window of one.");
}

}  // namespace

ConstImage as_image(const py::object& object, const std::string& name) {
  if (!py::isinstance<py::array>(object))
    throw py::type_error(name + " is a " + type_name(object) +
                         ", expected a numpy array; convert it, for example with np.asarray(image).");
  const py::array array = py::reinterpret_borrow<py::array>(object);
  if (!array.dtype().equal(py::dtype::of<std::uint8_t>()))
    throw py::value_error(name + " has dtype " + text(array.dtype()) +
                          ", expected uint8 from 0 to 255; convert it, for example with image.astype(np.uint8).");
  if (array.ndim() != 3 || array.shape(2) != kChannels || array.shape(0) < 1 || array.shape(1) < 1)
    throw py::value_error(name + " has shape " + text(array.attr("shape")) +
                          ", expected (height, width, 3) with no empty side; repeat a grey channel three times and drop "
                          "an alpha channel.");
  if (array.shape(0) > kLargestSide || array.shape(1) > kLargestSide)
    throw py::value_error(name + " has shape " + text(array.attr("shape")) + ", expected sides of at most " +
                          std::to_string(kLargestSide) + "; cut it into parts.");
  const bool packed = array.strides(2) == 1 && (array.strides(1) == kChannels || array.shape(1) == 1);
  if (!packed || (array.strides(0) < 0 && array.shape(0) > 1))
    throw py::value_error(name + " has strides " + text(array.attr("strides")) +
                          ", expected packed pixels (3 and 1) in rows from top to bottom; copy it with "
                          "np.ascontiguousarray(image).");
  return {static_cast<const std::uint8_t*>(array.data()), array.strides(0), static_cast<int>(array.shape(1)),
          static_cast<int>(array.shape(0))};
}

Size as_size(const py::object& object, const std::string& name) {
  const auto [height, width] = as_integers<2>(object, name, "(height, width)");
  if (height < 1 || width < 1 || height > kLargestSide || width > kLargestSide)
    throw py::value_error(name + " is " + text(object) + ", expected (height, width), each from 1 to " +
                          std::to_string(kLargestSide) + ".");
  return {static_cast<int>(height), static_cast<int>(width)};
}

Crop as_crop(const py::object& object, const std::string& name, Size inside) {
  const auto [top, left, height, width] = as_integers<4>(object, name, "(top, left, height, width)");
  if (top < 0 || left < 0 || height < 1 || width < 1 || height > inside.height || width > inside.width ||
      top > inside.height - height || left > inside.width - width)
    throw py::value_error(name + " is " + text(object) +
                          ", expected (top, left, height, width) inside the resized picture of (" +
                          std::to_string(inside.height) + ", " + std::to_string(inside.width) +
                          ") pixels, with no empty side.");
  return {static_cast<int>(top), static_cast<int>(left), static_cast<int>(height), static_cast<int>(width)};
}

int as_threads(int threads) {
  constexpr int kMost = 1024;
  if (threads < 0 || threads > kMost)
    throw py::value_error("threads is " + std::to_string(threads) + ", expected 1 to " + std::to_string(kMost) +
                          ", or 0 for every core this process may use.");
  return threads ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

Format as_format(const std::string& layout, const std::string& dtype) {
  if (layout == "nchw" && dtype == "float32") return Format::floats;
  if (layout == "nhwc" && dtype == "uint8") return Format::bytes;
  throw py::value_error("layout and dtype are \"" + layout + "\" and \"" + dtype +
                        "\", expected \"nchw\" and \"float32\", or \"nhwc\" and \"uint8\".");
}

const Kernels& as_kernels(const std::string& isa) {
  if (isa != "auto") return named_kernels(isa, "isa");
  const char* chosen = std::getenv("CYCLEGAN_EDGE_ISA");
  return named_kernels(chosen && *chosen ? chosen : "auto", "CYCLEGAN_EDGE_ISA");
}

Target Output::target(Format format, std::size_t picture, bool batch) const {
  const std::size_t first = batch ? 1 : 0;  // dimension of a picture
  void* start = static_cast<std::uint8_t*>(data) + (batch ? static_cast<std::ptrdiff_t>(picture) * strides[0] : 0);
  if (format == Format::bytes) return {start, format, strides[first], 0};
  return {start, format, strides[first + 1], strides[first]};
}

Output as_output(const py::object& out, Format format, const std::vector<std::ptrdiff_t>& shape) {
  Output output;
  if (out.is_none()) {
    py::array array = format == Format::floats ? py::array(py::array_t<float>(shape)) : py::array(py::array_t<std::uint8_t>(shape));
    output = {array, array, array.mutable_data(), shape, {array.strides(), array.strides() + array.ndim()}};
  } else if (PyObject_CheckBuffer(out.ptr())) {
    output = from_buffer(out, format);
  } else if (py::hasattr(out, "__dlpack__")) {
    output = from_dlpack(out, format);
  } else {
    throw py::type_error("out is a " + type_name(out) + ", expected None, a numpy array or a tensor with DLPack.");
  }
  if (output.shape != shape)
    throw py::value_error("out has shape " + text(output.shape) + ", expected " + text(shape) + ".");
  check_strides(output, format);
  return output;
}

}  // namespace cyclegan_edge
