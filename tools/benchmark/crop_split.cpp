// The rule of SipMask's crop operators as one pass over the output, as in the original's CUDA
// kernels: the cell of every pixel is found anew, the box edges are used as given.

#include <torch/extension.h>

#include <cmath>

namespace {

struct Cell {
  float left, top, right, bottom, width, height;

  Cell(const float* box, int64_t k)
      : left(box[0]), top(box[1]), right(box[2]), bottom(box[3]),
        width(float((double(right - left) + 0.1) / k)),
        height(float((double(bottom - top) + 0.1) / k)) {}

  // Number of the cell of a pixel, row by row; -1 outside the box.
  int64_t of(int64_t row, int64_t column, int64_t k) const {
    if (!(column >= left && row >= top && column < right && row < bottom)) return -1;
    return int64_t((row - top) / height) * k + int64_t((column - left) / width);
  }
};

std::vector<Cell> cells(const at::Tensor& boxes, int64_t k) {
  std::vector<Cell> all;
  for (int64_t n = 0; n < boxes.size(0); ++n) all.emplace_back(boxes.data_ptr<float>() + 4 * n, k);
  return all;
}

// Calls work(index of a pixel in [H, W, N], its cell) for all pixels inside the boxes.
template <typename Work>
void for_pixels(at::IntArrayRef size, const at::Tensor& boxes, int64_t k, Work work) {
  const auto boxed = cells(boxes, k);
  int64_t pixel = 0;
  for (int64_t row = 0; row < size[0]; ++row)
    for (int64_t column = 0; column < size[1]; ++column)
      for (int64_t n = 0; n < size[2]; ++n, ++pixel) {
        const int64_t cell = boxed[n].of(row, column, k);
        if (cell >= 0) work(pixel, cell);
      }
}

}  // namespace

// maps [k * k, H, W, N], boxes [N, 4] -> [H, W, N]; float32, contiguous, on the CPU.
at::Tensor forward(at::Tensor maps, at::Tensor boxes) {
  const int64_t k = std::lround(std::sqrt(double(maps.size(0))));
  auto output = at::zeros(maps.sizes().slice(1), maps.options());
  const int64_t plane = output.numel();
  const float* source = maps.data_ptr<float>();
  float* target = output.data_ptr<float>();
  for_pixels(output.sizes(), boxes, k, [&](int64_t pixel, int64_t cell) {
    target[pixel] = source[cell * plane + pixel];
  });
  return output;
}

// grad [H, W, N] -> [k * k, H, W, N].
at::Tensor backward(at::Tensor grad, at::Tensor boxes, int64_t k) {
  auto output = at::zeros({k * k, grad.size(0), grad.size(1), grad.size(2)}, grad.options());
  const int64_t plane = grad.numel();
  const float* source = grad.data_ptr<float>();
  float* target = output.data_ptr<float>();
  for_pixels(grad.sizes(), boxes, k, [&](int64_t pixel, int64_t cell) {
    target[cell * plane + pixel] = source[pixel];
  });
  return output;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("forward", &forward);
  module.def("backward", &backward);
}
