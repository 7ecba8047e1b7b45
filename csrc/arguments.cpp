#include "arguments.hpp"

#include <pybind11/numpy.h>

#include <array>
#include <cstdint>
#include <cstdlib>

#include "cpu.hpp"

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

Output from_buffer(const py::object& out) {
  py::buffer_info info;
  try {
    info = py::reinterpret_borrow<py::buffer>(out).request(true);
  } catch (const py::error_already_set&) {
    throw py::value_error("out is read-only, expected memory that can be written; pass a copy.");
  }
  if (info.format != py::format_descriptor<float>::format())
    throw py::value_error("out has the buffer format \"" + info.format + "\", expected float32; make it with that dtype.");
  return {out, py::memoryview(py::reinterpret_borrow<py::buffer>(out)), info.ptr,
          {info.shape.begin(), info.shape.end()}, {info.strides.begin(), info.strides.end()}};
}

void check_strides(const Output& output) {
  constexpr std::ptrdiff_t item = sizeof(float);
  bool good = output.strides.back() == item || output.shape.back() == 1;
  for (const std::ptrdiff_t stride : output.strides) good = good && stride >= 0 && stride % item == 0;
  if (!good || reinterpret_cast<std::uintptr_t>(output.data) % static_cast<std::uintptr_t>(item) != 0)
    throw py::value_error("out has strides " + text(output.strides) +
                          ", expected packed rows from top to bottom; pass a contiguous array, or a window of one.");
}

template <typename Value>
Output new_output(const std::vector<std::ptrdiff_t>& shape) {
  py::array_t<Value> array(shape);
  return {array, array, array.mutable_data(), shape, {array.strides(), array.strides() + array.ndim()}};
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

const Kernels& as_kernels(const std::string& isa) {
  if (isa != "auto") return named_kernels(isa, "isa");
  const char* chosen = std::getenv("CYCLEGAN_EDGE_ISA");
  return named_kernels(chosen && *chosen ? chosen : "auto", "CYCLEGAN_EDGE_ISA");
}

Output as_bytes(Size size) { return new_output<std::uint8_t>({size.height, size.width, kChannels}); }

Output as_floats(const py::object& out, Size size) {
  const std::vector<std::ptrdiff_t> shape{kChannels, size.height, size.width};
  if (out.is_none()) return new_output<float>(shape);
  if (!PyObject_CheckBuffer(out.ptr()))
    throw py::type_error("out is a " + type_name(out) + ", expected None or a numpy array; of a tensor pass tensor.numpy().");
  Output output = from_buffer(out);
  if (output.shape != shape)
    throw py::value_error("out has shape " + text(output.shape) + ", expected " + text(shape) + ".");
  check_strides(output);
  return output;
}

}  // namespace cyclegan_edge
