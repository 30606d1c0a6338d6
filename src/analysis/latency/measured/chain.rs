//! A chain of operators as it is timed: its text, and the networks that it takes to time it.
//!
//! Runtimes keep activations of images in blocks of channels, and what enters and leaves that layout takes as long as a layer. So where
//! a chain stands between layers of images, it is timed between two cheap ones: convolutions of one point that come from few
//! channels and go to few. What those take is timed too, and is no part of the chain's time.

use smallvec::smallvec;

use crate::analysis::candidate::CandidateOp;
use crate::analysis::latency::{Kind, Roofline, Shape};
use crate::ir::{
    Constant, DType, Dim, Graph, Op, Padding, Role, Tensor, Type, Value, binaries, byte_len,
    functions, text,
};

/// Operators, each on the result of the one before, where every size is a number.
pub(super) struct Chain(Vec<CandidateOp>);

impl Chain {
    /// The chain of these operators, where `number` gives sizes their numbers; `None` where they are no chain, an operator is not
    /// known or a result's size not a number.
    pub(super) fn of(plan: &[CandidateOp], number: &dyn Fn(&Dim) -> u64) -> Option<Chain> {
        let mut steps: Vec<CandidateOp> = Vec::with_capacity(plan.len());
        for step in plan {
            let step = with_numbers(step, number)?;
            if let Some(before) = steps.last()
                && step.operands().first() != Some(&before.result())
            {
                return None;
            }
            steps.push(step);
        }
        (!steps.is_empty()).then_some(Chain(steps))
    }

    /// The chain as text: what it starts from, then each operator as the IR's text has it, with `@` for weights and `%` for other
    /// operands. Chains of the same text take the same time.
    pub(super) fn key(&self) -> String {
        let mut key = self.0[0].operands()[0].to_string();
        for step in &self.0 {
            let operands = step.operands();
            let ranks: Vec<Option<usize>> = operands.iter().map(Type::rank).collect();
            // Which channels are gathered does not matter.
            let op = match step.op() {
                Op::Gather { axis, .. } => Op::Gather {
                    axis: *axis,
                    index: Default::default(),
                },
                op => op.clone(),
            };
            let (name, attributes) = text::operation(&op, &ranks);
            let others: Vec<String> = (1..operands.len())
                .map(|i| {
                    let sigil = if is_weight(step, i) { '@' } else { '%' };
                    format!("{sigil}{}", operands[i])
                })
                .collect();
            key += &format!(
                " | {name}({}){attributes} : {}",
                others.join(", "),
                step.result()
            );
        }
        key
    }

    /// The nanoseconds that a roofline expects.
    pub(super) fn expected(&self, roofline: &Roofline) -> f64 {
        self.shapes()
            .map(|shape| roofline.nanoseconds(&shape))
            .sum()
    }

    /// The kinds of its operators.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.shapes().map(|shape| shape.op).collect()
    }

    /// What the times of its operators depend on.
    pub(super) fn shapes(&self) -> impl Iterator<Item = Shape> + '_ {
        let number = |dim: &Dim| dim.as_len().unwrap_or(0) as u64;
        self.0.iter().map(move |step| {
            let operands: Vec<&Type> = step.operands().iter().collect();
            Shape::of(step.op(), &operands, step.results(), &number)
        })
    }

    /// The types of what enters and leaves the chain by way of a cheap layer.
    pub(super) fn framed(&self) -> Vec<Type> {
        let mut framed: Vec<Type> = Vec::new();
        for (k, step) in self.0.iter().enumerate() {
            let inputs = (0..step.operands().len()).filter(|i| is_input(step, k, *i));
            let types = inputs.map(|i| &step.operands()[i]);
            framed.extend(types.filter(|ty| is_framed(step.op(), ty)).cloned());
        }
        let last = &self.0[self.0.len() - 1];
        framed.extend(
            [last.result()]
                .into_iter()
                .filter(|ty| is_framed(last.op(), ty)),
        );
        framed
    }

    /// A network of the chain, with what it stands between.
    ///
    /// # Errors
    /// When it would take more memory than a measurement is worth.
    pub(super) fn network(&self) -> Result<Graph, String> {
        let types = self
            .0
            .iter()
            .flat_map(|s| s.operands().iter().chain(s.results()));
        let bytes = types.map(bytes).fold(0, usize::saturating_add);
        if bytes > MOST_BYTES {
            return Err(format!("it takes over {} MiB", MOST_BYTES >> 20));
        }
        let mut net = Net::new();
        let mut last = None;
        for (k, step) in self.0.iter().enumerate() {
            let mut operands = Vec::new();
            for (i, ty) in step.operands().iter().enumerate() {
                operands.push(match last {
                    Some(value) if i == 0 => value,
                    _ if !is_input(step, k, i) => net.weight(ty)?,
                    _ if is_framed(step.op(), ty) => net.enter(ty)?,
                    _ => net.input(ty.clone()),
                });
            }
            last = Some(net.op(step.op().clone(), &operands)?);
        }
        let step = &self.0[self.0.len() - 1];
        let result = last.ok_or("it is empty")?;
        let ty = step.result();
        let result = if is_framed(step.op(), &ty) {
            net.leave(result, &ty)?
        } else {
            result
        };
        Ok(net.returning(result))
    }
}

/// The text of the network of what stands around a value of this type.
pub(super) fn frame_key(ty: &Type) -> String {
    format!("frame {ty}")
}

/// A network of what stands around a value of this type: in, and out again.
pub(super) fn frame(ty: &Type) -> Result<Graph, String> {
    let mut net = Net::new();
    let inside = net.enter(ty)?;
    let outside = net.leave(inside, ty)?;
    Ok(net.returning(outside))
}

/// The text of the network that does nothing.
pub(super) const IDLE_KEY: &str = "idle";

/// A network that does nothing: what a run takes by itself.
pub(super) fn idle() -> Result<Graph, String> {
    let mut net = Net::new();
    let input = net.input(Type::tensor(DType::F32, [1.into()]));
    let output = net.op(Op::Relu {}, &[input])?;
    Ok(net.returning(output))
}

/// The operator with sizes that are numbers, and of those that take the same time always the same one.
fn with_numbers(step: &CandidateOp, number: &dyn Fn(&Dim) -> u64) -> Option<CandidateOp> {
    if matches!(step.op(), Op::Opaque(_)) {
        return None;
    }
    let typed = |ty: &Type| {
        let dims = ty
            .shape()?
            .iter()
            .map(|dim| i64::try_from(number(dim)).ok());
        let dims: Vec<i64> = dims.collect::<Option<_>>()?;
        let known = dims.iter().all(|n| *n > 0);
        known.then_some(Type::tensor(ty.dtype()?, dims.into_iter().map(Dim::from)))
    };
    let operands: Vec<Type> = step.operands().iter().map(typed).collect::<Option<_>>()?;
    let op = match step.op() {
        Op::Gather { axis, index } => {
            let (inner, outer) = (operands.first()?.len(*axis)?, index.len());
            Op::Gather {
                axis: *axis,
                index: (0..outer).map(|i| (i * inner / outer) as u32).collect(),
            }
        }
        op => op.clone(),
    };
    let step = CandidateOp::new(op, operands)?;
    let known = |ty: &Type| {
        ty.shape()
            .is_some_and(|s| s.iter().all(|n| n.as_len().is_some()))
    };
    (!step.operands().is_empty() && step.results().iter().all(known)).then_some(step)
}

/// Whether operand `i` of operator `k` of a chain comes from outside of it and is no weight.
fn is_input(step: &CandidateOp, k: usize, i: usize) -> bool {
    (k == 0 || i > 0) && !is_weight(step, i)
}

/// Whether operand `i` is a weight: where operators have them, and what is smaller than what it meets.
fn is_weight(step: &CandidateOp, i: usize) -> bool {
    let op = step.op();
    let takes_weights = op.convolution().is_some()
        || matches!(
            op,
            Op::Linear {} | Op::BatchNorm { .. } | Op::LayerNorm { .. } | Op::GroupNorm { .. }
        )
        || matches!(op, Op::PRelu {});
    let operands = step.operands();
    i > 0 && (takes_weights || bytes(&operands[i]) < bytes(&operands[0]))
}

/// Whether `op` is among layers of images, which hand a value of this type on in the runtime's own layout.
fn is_framed(op: &Op, ty: &Type) -> bool {
    let among_images = match op {
        op if op.convolution().is_some() => true,
        Op::Gather { axis, .. } | Op::Slice { axis, .. } | Op::Concat { axis } => *axis == 1,
        functions!() | binaries!() => true,
        Op::PRelu {} | Op::BatchNorm { .. } | Op::Pad { .. } | Op::Resize { .. } => true,
        Op::MaxPool { .. } | Op::AvgPool { .. } => true,
        Op::AdaptiveAvgPool { .. } | Op::AdaptiveMaxPool { .. } | Op::ReduceMean { .. } => true,
        _ => false,
    };
    let channels = ty.len(1).unwrap_or(0);
    among_images && ty.rank() == Some(4) && ty.is_float() && channels >= FEWEST_CHANNELS
}

/// Bytes of a network that is timed at most, weights and all that it computes.
const MOST_BYTES: usize = 1 << 30;
/// Fewer channels than this are not kept in blocks.
const FEWEST_CHANNELS: usize = 4;
/// The channels on the far side of the cheap layers.
const FEW: i64 = 8;

fn bytes(ty: &Type) -> usize {
    let dims = ty.shape().unwrap_or_default().iter();
    let shape: Option<Vec<usize>> = dims.map(Dim::as_len).collect();
    let known = ty.dtype().zip(shape);
    known
        .and_then(|(dtype, shape)| byte_len(dtype, &shape))
        .unwrap_or(usize::MAX)
}

/// A network being built.
struct Net {
    graph: Graph,
    random: fastrand::Rng,
}

impl Net {
    fn new() -> Net {
        Net {
            graph: Graph::new("timed"),
            random: fastrand::Rng::with_seed(1),
        }
    }

    fn returning(mut self, value: Value) -> Graph {
        self.graph.add_output("result", value);
        self.graph
    }

    fn input(&mut self, ty: Type) -> Value {
        self.graph.add_input("input", ty).into()
    }

    fn op(&mut self, op: Op, operands: &[Value]) -> Result<Value, String> {
        let node = self.graph.add_op(op.name(), op, operands);
        Ok(node.map_err(|error| error.to_string())?.into())
    }

    /// A weight that neither blows values up nor lets them vanish: arithmetic on the smallest numbers is slow.
    fn weight(&mut self, ty: &Type) -> Result<Value, String> {
        let dims = ty.shape().unwrap_or_default().iter();
        let shape: Vec<usize> = dims.filter_map(Dim::as_len).collect();
        let dtype = ty.dtype().ok_or("a weight is no tensor")?;
        let reads = shape.iter().skip(1).product::<usize>().max(1);
        let range = match (dtype.is_float(), shape.len()) {
            (false, _) => 0.0..0.0,
            // Scales and variances are positive.
            (true, 0 | 1) => 0.5..1.5,
            (true, _) => -(3.0 / reads as f64).sqrt()..(3.0 / reads as f64).sqrt(),
        };
        let n = shape.iter().product();
        let mut random = || range.start + (range.end - range.start) * self.random.f64();
        let tensor = Tensor::from_f64(dtype, &shape, (0..n).map(|_| random()));
        let constant = Constant::new(tensor, Role::Parameter);
        Ok(self.graph.add_constant("weight", constant).into())
    }

    /// A value of this type that comes from a cheap layer.
    fn enter(&mut self, ty: &Type) -> Result<Value, String> {
        let few = self.input(with_channels(ty, FEW));
        self.point(few, ty.len(1), Some(FEW as usize), ty)
    }

    /// What a cheap layer makes of a value of this type.
    fn leave(&mut self, value: Value, ty: &Type) -> Result<Value, String> {
        self.point(value, Some(FEW as usize), ty.len(1), ty)
    }

    fn point(
        &mut self,
        x: Value,
        outputs: Option<usize>,
        inputs: Option<usize>,
        ty: &Type,
    ) -> Result<Value, String> {
        let shape = [outputs.unwrap_or(1), inputs.unwrap_or(1), 1, 1].map(Dim::from);
        let weight = Type::tensor(ty.dtype().unwrap_or(DType::F32), shape);
        let weight = self.weight(&weight)?;
        let conv = Op::Conv {
            stride: smallvec![1, 1],
            pad: Padding::symmetric([0, 0]),
            dilation: smallvec![1, 1],
            groups: 1,
        };
        self.op(conv, &[x, weight])
    }
}

fn with_channels(ty: &Type, channels: i64) -> Type {
    let mut shape = ty.shape().unwrap_or_default().to_vec();
    if let Some(axis) = shape.get_mut(1) {
        *axis = channels.into();
    }
    Type::tensor(ty.dtype().unwrap_or(DType::F32), shape)
}
