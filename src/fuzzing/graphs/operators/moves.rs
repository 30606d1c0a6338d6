//! Elements moved to other places, cut off, put in, or seen under another shape.

use super::super::{Added, Builder};
use super::ints;
use crate::ir::{Dim, Dims, NodeId, Op, PadMode};

impl Builder<'_> {
    pub(super) fn any_pad(&mut self, x: NodeId) -> Added {
        let mode = self.choices.pick(&[
            PadMode::Constant,
            PadMode::Reflect,
            PadMode::Replicate,
            PadMode::Circular,
        ]);
        let mut forms = vec![
            [[0, 0, 1, 0], [0, 0, 1, 0]],
            [[0, 0, 0, 1], [0, 0, 1, 1]],
            [[0, 0, 1, 1], [0, 0, 0, 0]],
        ];
        match mode {
            PadMode::Constant => forms.extend([
                [[0, 1, 0, 0], [0, 0, 2, 0]],
                [[0, 0, -1, 2], [0, 0, 1, -1]],
                [[1, 0, 0, 0], [-1, 0, 0, 0]],
            ]),
            _ if self.channels(x) > 1 => forms.push([[0, 1, 0, 1], [0, 0, 1, 0]]),
            _ => {}
        }
        let amounts: [[i64; 4]; 2] = self.choices.pick(&forms);
        let [before, after] = amounts.map(|all| all.map(Dim::from).into_iter().collect());
        let value = match mode {
            PadMode::Constant => self.choices.pick(&[0.0, -1.0]),
            _ => 0.0,
        };
        let op = Op::Pad {
            before,
            after,
            mode,
            value: value.into(),
        };
        self.op("pad", op, &[x])
    }

    /// Positions of any axis.
    pub(super) fn selected(&mut self, name: &str, x: NodeId) -> Added {
        let axis = self.choices.below(4);
        let size = self.shape(x)?[axis].clone();
        let op = match name {
            "concat" => {
                let other = self.op("neg", Op::Neg {}, &[x])?;
                return self.op("concat", Op::Concat { axis }, &[x, other]);
            }
            "slice" => {
                let end = match (size.as_number(), self.choices.one_in(2)) {
                    (Some(n), true) if n > 1 => Dim::from(n - 1),
                    _ => size,
                };
                let room = end.as_number().map_or(0, |end| usize::from(end > 1));
                Op::Slice {
                    axis,
                    start: self.choices.below(1 + room).into(),
                    end,
                    step: 1 + self.choices.below(3),
                }
            }
            _ => {
                let positions = size.as_len().unwrap_or(1);
                let picked = 1 + self.choices.below(4);
                let index: Vec<u32> = (0..picked)
                    .map(|_| self.choices.below(positions) as u32)
                    .collect();
                let index = index.into();
                Op::Gather { axis, index }
            }
        };
        self.op(name, op, &[x])
    }

    /// The same elements under another shape.
    pub(super) fn view(&mut self, name: &str, x: NodeId) -> Added {
        let [n, c, h, w] = self.shape(x)?;
        match name {
            "flatten" => {
                let ranges = [(2, 3), (1, 3), (0, 1), (1, 2), (0, 3)];
                let (start, end) = self.choices.pick(&ranges);
                let flat = self.op("flatten", Op::Flatten { start, end }, &[x])?;
                let flat = self.op("relu", Op::Relu {}, &[flat])?;
                let shape = [n, c, h, w].into_iter().collect();
                self.op("reshape", Op::Reshape { shape }, &[flat])
            }
            "reshape" => {
                let shape = [n, c, h * w, 1.into()].into_iter().collect();
                self.op("reshape", Op::Reshape { shape }, &[x])
            }
            "transpose" => {
                let perm =
                    self.choices
                        .pick(&[[0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 1, 2], [3, 1, 0, 2]]);
                let turned = self.op("transpose", Op::Transpose { perm: ints(perm) }, &[x])?;
                let turned = self.op("relu", Op::Relu {}, &[turned])?;
                let back = (0..4).map(|i| perm.iter().position(|p| *p == i).unwrap_or(i));
                let back = Op::Transpose { perm: ints(back) };
                self.op("transpose", back, &[turned])
            }
            "expand" => {
                let over: &[usize] = self.choices.pick(&[&[2, 3][..], &[1], &[0, 3]]);
                let axes = ints(over.iter().copied());
                let mean = self.op("mean", Op::ReduceMean { axes, keep: true }, &[x])?;
                let mut shape: Dims = [n, c, h, w].into_iter().collect();
                if self.choices.one_in(2) {
                    return self.op("expand", Op::Expand { shape }, &[mean]);
                }
                shape.insert(0, 2.into());
                let twice = self.op("expand", Op::Expand { shape }, &[mean])?;
                let (axes, keep) = (ints([0]), false);
                self.op("sum", Op::ReduceSum { axes, keep }, &[twice])
            }
            _ => {
                let axes: &[usize] =
                    self.choices
                        .pick(&[&[0][..], &[1], &[2], &[3], &[4], &[0, 3], &[2, 1]]);
                let [unsqueeze, squeeze] = [
                    Op::Unsqueeze {
                        axes: ints(axes.iter().copied()),
                    },
                    Op::Squeeze {
                        axes: ints(axes.iter().rev().copied()),
                    },
                ];
                let wide = self.op("unsqueeze", unsqueeze, &[x])?;
                let wide = self.op("relu", Op::Relu {}, &[wide])?;
                self.op("squeeze", squeeze, &[wide])
            }
        }
    }
}
