//! Convolutions of stride 1 without unfolding: a tile of channels and positions is summed in registers.
//!
//! Images are copied with their pads, so that every tap of a kernel lies at one offset from the position of the window, across the
//! ends of rows too; what windows over these ends give is computed and left out.

use pulp::{Arch, Simd, WithSimd};

use super::super::window::Windows;

/// Output channels of a tile, and registers of positions: with these, operands fit into 16 registers.
const CHANNELS: usize = 4;
const REGISTERS: usize = 2;
/// Registers of positions where each output channel has kernels of its own.
const ALONE: usize = 4;
/// The most lanes that a register has.
const LANES: usize = 16;

/// Weights of a convolution in the order in which tiles read them.
pub(super) struct Packed {
    groups: usize,
    /// Channels a group.
    inputs: usize,
    outputs: usize,
    /// Output channels of a tile.
    tile: usize,
    /// `[groups, tiles, inputs, taps, tile]`, zeros where a tile has fewer channels.
    weight: Vec<f32>,
}

impl Packed {
    /// Of a weight of which `at(output, input, tap)` is an element, outputs counted over all groups and inputs within theirs.
    pub(super) fn new(
        [groups, inputs, outputs, taps]: [usize; 4],
        at: impl Fn(usize, usize, usize) -> f32,
    ) -> Packed {
        let tile = if outputs == 1 { 1 } else { CHANNELS };
        let mut weight =
            Vec::with_capacity(groups * outputs.next_multiple_of(tile) * inputs * taps);
        for group in 0..groups {
            for first in (0..outputs).step_by(tile) {
                for input in 0..inputs {
                    for tap in 0..taps {
                        let own = first..(first + tile).min(outputs);
                        weight.extend(own.map(|o| at(group * outputs + o, input, tap)));
                        weight.resize(weight.len().next_multiple_of(tile), 0.0);
                    }
                }
            }
        }
        Packed {
            groups,
            inputs,
            outputs,
            tile,
            weight,
        }
    }

    /// The results of images, one after the other; `windows` have the stride 1.
    pub(super) fn run(&self, windows: &Windows, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let layout = Layout::new(windows);
        let (input, output) = (layout.input_len(), layout.output_len());
        let images = x.len() / (self.groups * self.inputs * input).max(1);
        let mut result = vec![0.0; images * self.groups * self.outputs * output];
        if result.is_empty() {
            return result;
        }
        let arch = Arch::new();
        let mut padded = vec![0.0; self.inputs * layout.plane + layout.slack];
        let mut tile = vec![0.0; self.tile * layout.pitch];
        let weights = self.inputs * layout.offsets.len() * self.tile;
        let targets = result.chunks_exact_mut(self.outputs * output);
        for (i, (x, target)) in x.chunks_exact(self.inputs * input).zip(targets).enumerate() {
            let group = i % self.groups;
            for (x, plane) in x.chunks_exact(input).zip(padded.chunks_mut(layout.plane)) {
                layout.copy_in(x, plane);
            }
            let tiles = self.outputs.div_ceil(self.tile);
            for (t, target) in target.chunks_mut(self.tile * output).enumerate() {
                let first = group * self.outputs + t * self.tile;
                let bias = bias.and_then(|bias| bias.get(first..)).unwrap_or_default();
                let weight = &self.weight[(group * tiles + t) * weights..][..weights];
                let (x, out) = (&padded[..], &mut tile[..]);
                match self.tile {
                    1 => arch.dispatch(Tile::<1, ALONE> {
                        layout: &layout,
                        x,
                        weight,
                        bias,
                        out,
                    }),
                    _ => arch.dispatch(Tile::<CHANNELS, REGISTERS> {
                        layout: &layout,
                        x,
                        weight,
                        bias,
                        out,
                    }),
                }
                for (tile, plane) in tile
                    .chunks_exact(layout.pitch)
                    .zip(target.chunks_exact_mut(output))
                {
                    layout.copy_out(tile, plane);
                }
            }
        }
        result
    }
}

/// Where elements lie in an image with its pads.
struct Layout {
    /// Lengths, pads before, and lengths with all pads, of the three dimensions.
    input: [usize; 3],
    output: [usize; 3],
    before: [usize; 3],
    padded: [usize; 3],
    /// Elements of a channel.
    plane: usize,
    /// The offset of each tap.
    offsets: Vec<usize>,
    /// Positions from the first window to the last, and as many as tiles cover.
    positions: usize,
    pitch: usize,
    /// Elements that tiles read behind the last channel.
    slack: usize,
}

impl Layout {
    fn new(windows: &Windows) -> Layout {
        let [_, y, x] = windows
            .axes
            .map(|axis| axis.input + axis.before + axis.after);
        let padded = windows
            .axes
            .map(|axis| axis.input + axis.before + axis.after);
        let at = |[i, j, k]: [usize; 3]| (i * y + j) * x + k;
        let dilation = windows.axes.map(|axis| axis.dilation);
        let offset = |tap: [usize; 3]| at(std::array::from_fn(|d| tap[d] * dilation[d]));
        let output = windows.axes.map(|axis| axis.output);
        let positions = at(output.map(|n| n.saturating_sub(1))) + 1;
        let width = ALONE.max(REGISTERS) * LANES;
        let pitch = positions.next_multiple_of(width);
        Layout {
            input: windows.axes.map(|axis| axis.input),
            output,
            before: windows.axes.map(|axis| axis.before),
            padded,
            plane: padded.iter().product(),
            offsets: windows.taps().map(offset).collect(),
            positions,
            pitch,
            slack: pitch - positions,
        }
    }

    fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    fn copy_in(&self, x: &[f32], plane: &mut [f32]) {
        let [_, rows, width] = self.input;
        for (i, row) in x.chunks_exact(width.max(1)).enumerate() {
            let (z, y) = (i / rows + self.before[0], i % rows + self.before[1]);
            let start = (z * self.padded[1] + y) * self.padded[2] + self.before[2];
            plane[start..start + width].copy_from_slice(row);
        }
    }

    fn copy_out(&self, tile: &[f32], plane: &mut [f32]) {
        let [_, rows, width] = self.output;
        for (i, row) in plane.chunks_exact_mut(width).enumerate() {
            let (z, y) = (i / rows, i % rows);
            let start = (z * self.padded[1] + y) * self.padded[2];
            row.copy_from_slice(&tile[start..start + width]);
        }
    }
}

/// `O` output channels at all positions, `R` registers of these at a time.
struct Tile<'a, const O: usize, const R: usize> {
    layout: &'a Layout,
    x: &'a [f32],
    weight: &'a [f32],
    /// Of these channels and perhaps others; those that are not there have none.
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl<const O: usize, const R: usize> WithSimd for Tile<'_, O, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = R * S::F32_LANES;
        let of_channel = self.layout.offsets.len() * O;
        let bias: [S::f32s; O] =
            std::array::from_fn(|o| simd.splat_f32s(self.bias.get(o).copied().unwrap_or_default()));
        for at in (0..self.layout.positions).step_by(width) {
            let mut sums = bias.map(|bias| [bias; R]);
            for (channel, weight) in self.weight.chunks_exact(of_channel).enumerate() {
                let x = &self.x[channel * self.layout.plane + at..];
                for (offset, weight) in self.layout.offsets.iter().zip(weight.chunks_exact(O)) {
                    let (x, _) = S::as_simd_f32s(&x[*offset..*offset + width]);
                    let x: [S::f32s; R] = std::array::from_fn(|r| x[r]);
                    for (sums, weight) in sums.iter_mut().zip(weight) {
                        let weight = simd.splat_f32s(*weight);
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = simd.mul_add_e_f32s(weight, x, *sum);
                        }
                    }
                }
            }
            for (o, sums) in sums.iter().enumerate() {
                let out = &mut self.out[o * self.layout.pitch + at..][..width];
                S::as_mut_simd_f32s(out).0.copy_from_slice(sums);
            }
        }
    }
}
