// Argument checks, GIL, numpy; nothing else. A wrong value is a ValueError, a wrong type a TypeError: a sentence each.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu.hpp"
#include "image.hpp"
#include "resize.hpp"

namespace py = pybind11;

namespace cyclegan_edge {
namespace {

std::string text(py::handle value) { return py::str(value).cast<std::string>(); }
std::string type_name(py::handle value) { return text(py::type::handle_of(value).attr("__name__")); }

ConstImage as_image(const py::object& object) {
  if (!py::isinstance<py::array>(object))
    throw py::type_error("image is a " + type_name(object) +
                         ", expected a numpy array; convert it, for example with np.asarray(image).");
  const py::array array = py::reinterpret_borrow<py::array>(object);
  if (!array.dtype().is(py::dtype::of<std::uint8_t>()))
    throw py::value_error("image has dtype " + text(array.dtype()) +
                          ", expected uint8 from 0 to 255; convert it, for example with image.astype(np.uint8).");
  if (array.ndim() != 3 || array.shape(2) != kChannels || array.shape(0) < 1 || array.shape(1) < 1)
    throw py::value_error("image has shape " + text(array.attr("shape")) +
                          ", expected (height, width, 3) with no empty side; repeat a grey channel three times and drop "
                          "an alpha channel.");
  if (array.shape(0) > kLargestSide || array.shape(1) > kLargestSide)
    throw py::value_error("image has shape " + text(array.attr("shape")) + ", expected sides of at most " +
                          std::to_string(kLargestSide) + "; cut it into parts.");
  const bool packed = array.strides(2) == 1 && (array.strides(1) == kChannels || array.shape(1) == 1);
  if (!packed || (array.strides(0) < 0 && array.shape(0) > 1))
    throw py::value_error("image has strides " + text(array.attr("strides")) +
                          ", expected packed pixels (3 and 1) in rows from top to bottom; copy it with "
                          "np.ascontiguousarray(image).");
  return {static_cast<const std::uint8_t*>(array.data()), array.strides(0), static_cast<int>(array.shape(1)),
          static_cast<int>(array.shape(0))};
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
    if (overflow != 0) values[i] = overflow < 0 ? -kLargestSide - 1 : 2LL * kLargestSide;  // refused below
  }
  return values;
}

Size as_size(const py::object& object) {
  const auto [height, width] = as_integers<2>(object, "size", "(height, width)");
  if (height < 1 || width < 1 || height > kLargestSide || width > kLargestSide)
    throw py::value_error("size is " + text(object) + ", expected (height, width), each from 1 to " +
                          std::to_string(kLargestSide) + ".");
  return {static_cast<int>(height), static_cast<int>(width)};
}

Crop as_crop(const py::object& object, Size size) {
  const auto [top, left, height, width] = as_integers<4>(object, "crop", "(top, left, height, width)");
  if (top < 0 || left < 0 || height < 1 || width < 1 || height > size.height || width > size.width ||
      top > size.height - height || left > size.width - width)
    throw py::value_error("crop is " + text(object) + ", expected (top, left, height, width) inside the resized picture of (" +
                          std::to_string(size.height) + ", " + std::to_string(size.width) + ") pixels, with no empty side.");
  return {static_cast<int>(top), static_cast<int>(left), static_cast<int>(height), static_cast<int>(width)};
}

std::string names() {
  std::string joined = "auto";
  for (const Kernels* kernels : available_kernels()) joined += std::string(", ") + kernels->name;
  return joined;
}

const Kernels& named_kernels(const std::string& isa, const std::string& where) {
  if (isa == "auto") return *available_kernels().back();
  const Kernels* kernels = find_kernels(isa);
  if (!kernels)
    throw py::value_error(where + " is \"" + isa + "\", but this CPU and this build have: " + names() + "; choose one of them.");
  return *kernels;
}

const Kernels& default_kernels() {
  const char* chosen = std::getenv("CYCLEGAN_EDGE_ISA");
  return named_kernels(chosen && *chosen ? chosen : "auto", "CYCLEGAN_EDGE_ISA");
}

const Kernels& as_kernels(const std::string& isa) {
  return isa == "auto" ? default_kernels() : named_kernels(isa, "isa");
}

py::array_t<std::uint8_t> resize(const py::object& image, const py::object& size, const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  Job job{as_image(image), as_size(size), {}};
  job.crop = {0, 0, job.size.height, job.size.width};
  py::array_t<std::uint8_t> target({job.size.height, job.size.width, kChannels});
  std::uint8_t* data = target.mutable_data();
  {
    const py::gil_scoped_release release;
    resize_to_bytes(job, data, kernels);
  }
  return target;
}

py::array_t<float> resize_crop(const py::object& image, const py::object& size, const py::object& crop, bool flip,
                               const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  Job job{as_image(image), as_size(size), {}, flip};
  job.crop = as_crop(crop, job.size);
  py::array_t<float> target({kChannels, job.crop.height, job.crop.width});
  float* data = target.mutable_data();
  {
    const py::gil_scoped_release release;
    resize_to_floats(job, data, kernels);
  }
  return target;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> isas;
  for (const Kernels* kernels : available_kernels()) isas.emplace_back(kernels->name);
  return isas;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.def("available_isas", &available_isas);
  module.def("default_isa", [] { return std::string(default_kernels().name); });
  module.def("resize", &resize, py::arg("image"), py::arg("size"), py::kw_only(), py::arg("isa") = "auto");
  module.def("resize_crop", &resize_crop, py::arg("image"), py::arg("size"), py::arg("crop"), py::arg("flip") = false,
             py::kw_only(), py::arg("isa") = "auto");
}

}  // namespace cyclegan_edge
