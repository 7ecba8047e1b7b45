// The Python functions of _core: check, release the GIL, call one function.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "cpu.hpp"
#include "hearing.hpp"
#include "resize.hpp"

namespace py = pybind11;

namespace cyclegan_edge {
namespace {

// The address range of a picture or an output, for the check that they share nothing.
struct Range {
  std::uintptr_t begin, end;
};

Range range_of(const ConstImage& image) {
  const auto begin = reinterpret_cast<std::uintptr_t>(image.data);
  return {begin, begin + static_cast<std::uintptr_t>((image.height - 1) * image.stride + image.width * kChannels)};
}

Range range_of(const Output& output) {
  const auto begin = reinterpret_cast<std::uintptr_t>(output.data);
  std::ptrdiff_t last = 0;
  for (std::size_t i = 0; i < output.shape.size(); ++i) last += (output.shape[i] - 1) * output.strides[i];
  return {begin, begin + static_cast<std::uintptr_t>(last) + 1};
}

py::object run(const Job& job, const Output& output, const Target& target, const Kernels& kernels) {
  const Range read = range_of(job.source), written = range_of(output);
  if (read.begin < written.end && written.begin < read.end)
    throw py::value_error("out shares memory with the picture that is read; pass separate memory.");
  {
    const py::gil_scoped_release release;
    resize(job, target, kernels);
  }
  return output.owner;
}

py::object resize_image(const py::object& image, const py::object& size, bool bgr, const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  Job job{as_image(image, "image"), as_size(size, "size"), {}, false, bgr};
  job.crop = {0, 0, job.size.height, job.size.width};
  const Output output = as_bytes(job.size);
  return run(job, output, {output.data, Format::bytes, output.strides[0]}, kernels);
}

py::object resize_crop(const py::object& image, const py::object& size, const py::object& crop, bool flip,
                       const py::object& out, const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  Job job{as_image(image, "image"), as_size(size, "size"), {}, flip};
  job.crop = as_crop(crop, "crop", job.size);
  const Output output = as_floats(out, {job.crop.height, job.crop.width});
  return run(job, output, {output.data, Format::floats, output.strides[1], output.strides[0]}, kernels);
}

PyObject* decode(const std::string& text) {
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

std::vector<std::string> available_isas() {
  std::vector<std::string> isas;
  for (const Kernels* kernels : available_kernels()) isas.emplace_back(kernels->name);
  return isas;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.def("available_isas", &available_isas);
  module.def("default_isa", [] { return std::string(as_kernels("auto").name); });
  module.def("start_hearing", &start_hearing);
  module.def("stop_hearing", [] { return py::reinterpret_steal<py::str>(decode(stop_hearing())); });
  module.def("resize", &resize_image, py::arg("image"), py::arg("size"), py::kw_only(), py::arg("bgr") = false,
             py::arg("isa") = "auto");
  module.def("resize_crop", &resize_crop, py::arg("image"), py::arg("size"), py::arg("crop"), py::arg("flip") = false,
             py::kw_only(), py::arg("out") = py::none(), py::arg("isa") = "auto");
}

}  // namespace cyclegan_edge
