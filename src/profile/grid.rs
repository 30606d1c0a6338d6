//! The shapes that are timed.

use super::cases::{Case, DEPTHWISE, Layer, POINT};

/// Multiply-adds of the largest layers that are timed. Those beyond take time in proportion.
const MOST: usize = 2_000_000_000;

/// Elements of the largest activations that are timed.
const LARGEST: usize = 13_000_000;

const fn conv(kernel: usize, stride: usize) -> Layer {
    Layer::Conv { kernel, stride }
}

const fn depthwise(kernel: usize, stride: usize) -> Layer {
    Layer::Depthwise { kernel, stride }
}

/// The shapes that convolutional networks are made of.
pub fn grid() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |layer: Layer, channels_in: usize, channels_out: usize, side: usize| {
        let case = Case {
            layer,
            channels_in,
            channels_out,
            side,
        };
        let area = match layer {
            Layer::Conv { kernel, stride } => kernel * kernel / (stride * stride),
            _ => 0,
        };
        let small = channels_in.max(channels_out) * side * side <= LARGEST
            && (channels_in * channels_out * side * side).saturating_mul(area) <= MOST;
        if small && !cases.contains(&case) {
            cases.push(case);
        }
    };
    let dense = conv(3, 1);
    let strided = conv(3, 2);
    // Sides fall as channels rise, so only what networks have is timed, and its neighbours.
    for (channels, sides) in [
        (16, &[8, 16, 32, 56, 112][..]),
        (32, &[8, 16, 32, 56, 112]),
        (64, &[8, 16, 32, 56, 112, 224]),
        (128, &[7, 14, 28, 56, 112]),
        (256, &[7, 14, 28, 56]),
        (512, &[7, 14, 28]),
    ] {
        for side in sides {
            add(dense, channels, channels, *side);
            add(strided, channels, 2 * channels, *side);
            for kernels in [2, 3, 5, 8, 14].map(|halves| halves * channels / 2) {
                add(POINT, channels, kernels, *side);
                add(DEPTHWISE, kernels, kernels, *side);
                add(Layer::Gather, channels, kernels, *side);
            }
        }
        let side = sides[sides.len() / 2];
        for layer in [Layer::Relu, Layer::Add, Layer::BatchNorm, Layer::MaxPool] {
            add(layer, channels, channels, side);
        }
        add(dense, channels, 2 * channels, side);
        add(conv(1, 2), channels, 2 * channels, 2 * side);
        add(conv(5, 1), channels, channels, side);
        add(depthwise(5, 1), channels, channels, side);
        add(depthwise(3, 2), channels, channels, 2 * side);
        // Channels that fill a vector's last quarter, half or three quarters only.
        for uneven in [5 * channels / 4, 3 * channels / 2, 7 * channels / 4] {
            if channels <= 64 {
                add(dense, uneven, uneven, side);
                add(POINT, uneven, uneven, side);
            }
        }
        // Channels that no vector holds evenly.
        for odd in [channels + 2, 5 * channels / 2 + 1] {
            add(POINT, channels, odd, side);
            add(dense, odd, odd, side);
            add(DEPTHWISE, odd, odd, side);
            add(Layer::Gather, channels, odd, side);
        }
    }
    add(conv(7, 2), 3, 64, 224);
    add(dense, 3, 16, 32);
    add(strided, 3, 32, 224);
    for (inner, outer) in [(64, 10), (512, 10), (512, 1000), (2048, 1000), (4096, 4096)] {
        for rows in [1, 8] {
            add(Layer::Linear, inner, outer, rows);
        }
    }
    cases
}

/// Layers to check a table with: 3 x 3 convolutions, dense and separated with 2.5 kernels a channel, which the grid does not
/// hold in one piece.
pub fn separated() -> Vec<Case> {
    let shapes = [
        (16, 32),
        (32, 16),
        (64, 8),
        (64, 56),
        (96, 28),
        (128, 28),
        (256, 14),
        (512, 7),
    ];
    let case = |(channels, side): (usize, usize)| {
        let of = |layer| Case {
            layer,
            channels_in: channels,
            channels_out: channels,
            side,
        };
        let kernels = 5 * channels / 2;
        [of(conv(3, 1)), of(Layer::Separated { kernels })]
    };
    shapes.into_iter().flat_map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_case_is_timed_beside_is_timed_too() {
        let cases = grid();
        for case in &cases {
            for beside in case.beside() {
                assert!(cases.contains(&beside), "{case} needs {beside}");
            }
        }
    }
}
