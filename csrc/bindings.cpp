// The Python functions of _core: check, release the GIL, call one function.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "cpu.hpp"
#include "resize.hpp"

namespace py = pybind11;

namespace cyclegan_edge {
namespace {

std::vector<std::ptrdiff_t> shape_of(const Crop& crop, Format format) {
  if (format == Format::bytes) return {crop.height, crop.width, kChannels};
  return {kChannels, crop.height, crop.width};
}

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

py::object run(const std::vector<Job>& jobs, const Output& output, Format format, bool batch, int threads,
               const Kernels& kernels) {
  const Range written = range_of(output);
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const Range read = range_of(jobs[i].source);
    if (read.begin < written.end && written.begin < read.end)
      throw py::value_error("out shares memory with a picture that is read; pass separate memory.");
    tasks.push_back({jobs[i], output.target(format, i, batch)});
  }
  {
    const py::gil_scoped_release release;
    resize_all(tasks, threads, kernels);
  }
  return output.owner;
}

py::object resize_image(const py::object& image, const py::object& size, bool bgr, const py::object& out, int threads,
                        const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  Job job{as_image(image, "image"), as_size(size, "size"), {}, false, bgr};
  job.crop = {0, 0, job.size.height, job.size.width};
  const Output output = as_output(out, Format::bytes, shape_of(job.crop, Format::bytes));
  return run({job}, output, Format::bytes, false, as_threads(threads), kernels);
}

py::object resize_crop(const py::object& image, const py::object& size, const py::object& crop, bool flip, bool bgr,
                       const std::string& layout, const std::string& dtype, const py::object& out, int threads,
                       const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  const Format format = as_format(layout, dtype);
  Job job{as_image(image, "image"), as_size(size, "size"), {}, flip, bgr};
  job.crop = as_crop(crop, "crop", job.size);
  const Output output = as_output(out, format, shape_of(job.crop, format));
  return run({job}, output, format, false, as_threads(threads), kernels);
}

void check_length(const char* name, std::size_t length, std::size_t images) {
  if (length != images)
    throw py::value_error(std::string(name) + " has " + std::to_string(length) + " entries for " +
                          std::to_string(images) + " images, expected one for each.");
}

py::object resize_crop_batch(const std::vector<py::object>& images, const std::vector<py::object>& sizes,
                             const std::vector<py::object>& crops, const std::vector<bool>& flips, const py::object& out,
                             int threads, bool bgr, const std::string& layout, const std::string& dtype,
                             const std::string& isa) {
  const Kernels& kernels = as_kernels(isa);
  const Format format = as_format(layout, dtype);
  if (images.empty()) throw py::value_error("images is empty, expected one picture at least.");
  check_length("sizes", sizes.size(), images.size());
  check_length("crops", crops.size(), images.size());
  check_length("flips", flips.size(), images.size());
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::string at = "[" + std::to_string(i) + "]";
    Job job{as_image(images[i], "images" + at), as_size(sizes[i], "sizes" + at), {}, flips[i], bgr};
    job.crop = as_crop(crops[i], "crops" + at, job.size);
    if (i && (job.crop.height != jobs[0].crop.height || job.crop.width != jobs[0].crop.width))
      throw py::value_error("crops" + at + " is " + std::to_string(job.crop.height) + " high and " +
                            std::to_string(job.crop.width) + " wide, expected the " +
                            std::to_string(jobs[0].crop.height) + " and " + std::to_string(jobs[0].crop.width) +
                            " of crops[0]: a batch has one size.");
    jobs.push_back(job);
  }
  std::vector<std::ptrdiff_t> shape = shape_of(jobs[0].crop, format);
  shape.insert(shape.begin(), static_cast<std::ptrdiff_t>(jobs.size()));
  return run(jobs, as_output(out, format, shape), format, true, as_threads(threads), kernels);
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
  module.def("resize", &resize_image, py::arg("image"), py::arg("size"), py::kw_only(), py::arg("bgr") = false,
             py::arg("out") = py::none(), py::arg("threads") = 1, py::arg("isa") = "auto");
  module.def("resize_crop", &resize_crop, py::arg("image"), py::arg("size"), py::arg("crop"), py::arg("flip") = false,
             py::kw_only(), py::arg("bgr") = false, py::arg("layout") = "nchw", py::arg("dtype") = "float32",
             py::arg("out") = py::none(), py::arg("threads") = 1, py::arg("isa") = "auto");
  module.def("resize_crop_batch", &resize_crop_batch, py::arg("images"), py::arg("sizes"), py::arg("crops"),
             py::arg("flips"), py::arg("out") = py::none(), py::arg("threads") = 0, py::kw_only(),
             py::arg("bgr") = false, py::arg("layout") = "nchw", py::arg("dtype") = "float32", py::arg("isa") = "auto");
}

}  // namespace cyclegan_edge
