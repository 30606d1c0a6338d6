//! Graphs run, and differentiated, by libtorch.
//!
//! A [`Network`] is a [`Graph`] on a device. It computes what the [`Interpreter`](super::Interpreter) does, and in training
//! what a network does only then: batch norms use, and update, the statistics of the batch, dropout drops. Its trained
//! parameters are libtorch's variables, so what its outputs are made into can be differentiated with respect to them; an
//! optimiser changes them in place, and [`Network::write_back`] puts them into the graph again.
//!
//! As in the interpreter, all elements are of one floating-point type, those of integers and booleans too.

mod convert;
mod operators;
mod train;
mod windows;

use std::sync::{Mutex, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};
use tch::{Kind, TchError, Tensor};

pub(crate) use convert::kind_of;
pub use convert::{from_array, open, to_array};
pub use train::{Epoch, Judgement, Keep, Moment, Schedule, Settings, Sgd, Trainer};

use super::device::Device;
use super::interpreter::{bind, run_error};
use crate::ir::{Constant, DType, Graph, NodeId, Op, Role, Value};
use crate::{Error, Result};

/// What a batch norm's running statistics move towards the batch's in a step: libtorch's default, the IR keeping none.
pub const MOMENTUM: f64 = 0.1;

/// Whether a network answers or learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The function that the graph stands for.
    #[default]
    Evaluation,
    /// Batch norms whose mean and variance are constants use the batch's, and move their own by [`MOMENTUM`] towards them
    /// (the variance without bias, as libtorch does); dropout is active.
    Training {
        /// What is dropped depends on this, and on libtorch's generator for the device.
        seed: u64,
    },
}

/// libtorch's random numbers are the process's; whoever draws some that others are not to disturb holds this.
static RANDOM: Mutex<()> = Mutex::new(());

/// A graph on a device.
pub struct Network {
    graph: Graph,
    device: tch::Device,
    kind: Kind,
    steps: Vec<Step>,
    constants: Vec<Weight>,
    /// How many values a run keeps places for.
    places: usize,
    outputs: Vec<Source>,
}

/// A constant on the device.
struct Weight {
    node: NodeId,
    tensor: Tensor,
    part: Part,
}

/// What training does to a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing.
    Fixed,
    /// A gradient is computed.
    Parameter,
    /// A batch norm in training moves it.
    Statistic,
}

impl Part {
    /// What training does to `constant`, where batch norms read it as a mean or a variance if `statistic`.
    fn of(constant: &Constant, statistic: bool) -> Part {
        match constant.role {
            _ if !constant.tensor.dtype().is_float() => Part::Fixed,
            _ if statistic => Part::Statistic,
            Role::Parameter => Part::Parameter,
            Role::Buffer | Role::Literal => Part::Fixed,
        }
    }
}

/// One operation.
struct Step {
    node: NodeId,
    op: Op,
    operands: Vec<Source>,
    /// Attributes that libtorch wants as a tensor, made once.
    attribute: Option<Tensor>,
    /// Whether training changes what it computes.
    trains: bool,
    /// Where the result goes.
    place: usize,
    /// Places that nobody reads after this.
    done: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Constant(usize),
    Place(usize),
}

/// The means and variances of batch norms.
fn statistics(graph: &Graph) -> FxHashSet<NodeId> {
    let is_norm = |node: &NodeId| matches!(graph.op(*node), Some(Op::BatchNorm { .. }));
    let norms = graph.nodes().filter(is_norm);
    let statistics = norms.flat_map(|node| graph.operands(node).into_iter().skip(3));
    statistics.map(|value| value.node).collect()
}

impl Network {
    /// Puts `graph` on `device`, its elements as `dtype`, `f32` or `f64`. Constants that the format calls parameters become
    /// variables, one for each, so that tied weights stay tied; but for the statistics of batch norms.
    ///
    /// # Errors
    /// [`Error::Usage`] when libtorch has no such device, or `dtype` is another; [`Error::Run`] with the node that libtorch
    /// cannot run, such as an opaque operator.
    pub fn new(graph: &Graph, device: Device, dtype: DType) -> Result<Network> {
        let kind = match dtype {
            DType::F32 => Kind::Float,
            DType::F64 => Kind::Double,
            other => {
                return Err(Error::Usage {
                    what: format!("libtorch is to compute in {other}"),
                    help: "take f32 or f64".into(),
                });
            }
        };
        let device = open(device)?;
        let order = graph
            .topological_order()
            .map_err(|node| run_error(graph, node, "it is on a cycle"))?;
        let statistics = statistics(graph);
        let mut network = Network {
            graph: graph.clone(),
            device,
            kind,
            steps: Vec::new(),
            constants: Vec::new(),
            places: 0,
            outputs: Vec::new(),
        };
        let mut sources: FxHashMap<Value, Source> = FxHashMap::default();
        for input in graph.inputs() {
            sources.insert((*input).into(), network.place());
        }
        for node in order {
            let failed = |what: String| run_error(graph, node, &what);
            let value = Value::from(node);
            if let Some(constant) = graph.constant(node).filter(|_| graph.is_read(node)) {
                let part = Part::of(constant, statistics.contains(&node));
                let tensor = convert::weight(&constant.tensor, kind, device)
                    .and_then(|tensor| tensor.f_set_requires_grad(part == Part::Parameter))
                    .map_err(|error| failed(reason(&error)))?;
                sources.insert(value, Source::Constant(network.constants.len()));
                network.constants.push(Weight { node, tensor, part });
            }
            if let Some(op) = graph.op(node) {
                let place = network.step(node, op, &sources).map_err(failed)?;
                sources.insert(value, place);
            }
        }
        network.outputs = graph
            .outputs()
            .iter()
            .map(|output| {
                let source = sources.get(&output.value).copied();
                source.ok_or_else(|| run_error(graph, output.value.node, "it has no such result"))
            })
            .collect::<Result<_>>()?;
        network.free_after_last_reader();
        Ok(network)
    }

    /// Adds the step of an operator; where its result will be, or why there is none.
    fn step(
        &mut self,
        node: NodeId,
        op: &Op,
        sources: &FxHashMap<Value, Source>,
    ) -> Result<Source, String> {
        if let Op::Opaque(opaque) = op {
            let name = &opaque.name;
            return Err(format!(
                "optc does not know what the operator {name} computes"
            ));
        }
        let operands = self.graph.operands(node);
        let operands: Vec<Source> = operands
            .iter()
            .map(|operand| sources.get(operand).copied())
            .collect::<Option<_>>()
            .ok_or("it reads what nobody computes")?;
        let is_constant = |source: &Source| matches!(source, Source::Constant(_));
        let trains = match op {
            Op::BatchNorm { .. } => operands.iter().skip(3).all(is_constant),
            op => matches!(op, Op::Dropout { .. }),
        };
        let attribute = operators::attribute(op, self.kind, self.device);
        let place = self.places;
        self.steps.push(Step {
            node,
            attribute: attribute.map_err(|error| reason(&error))?,
            trains,
            op: op.clone(),
            operands,
            place,
            done: Vec::new(),
        });
        Ok(self.place())
    }

    /// A place for one more value.
    fn place(&mut self) -> Source {
        self.places += 1;
        Source::Place(self.places - 1)
    }

    fn free_after_last_reader(&mut self) {
        let mut read: FxHashSet<Source> = self.outputs.iter().copied().collect();
        for step in self.steps.iter_mut().rev() {
            let own = Source::Place(step.place);
            for source in std::iter::once(own).chain(step.operands.iter().copied()) {
                if let (true, Source::Place(place)) = (read.insert(source), source) {
                    step.done.push(place);
                }
            }
        }
    }

    /// The outputs, in the graph's order, for inputs of any kind on any device. Symbols of the inputs' types get their
    /// numbers from the actual shapes. libtorch keeps what it needs for gradients unless this runs under [`tch::no_grad`].
    ///
    /// # Errors
    /// [`Error::Usage`] when the inputs do not fit the graph's; [`Error::Run`] with the node that cannot be computed.
    pub fn run(&self, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(convert::shape).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let bindings = bind(&self.graph, &shapes)?;
        let _alone = match mode {
            Mode::Training { seed } if self.draws() => {
                let alone = RANDOM.lock().unwrap_or_else(PoisonError::into_inner);
                tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
                Some(alone)
            }
            _ => None,
        };
        let mut values: Vec<Option<Tensor>> = Vec::new();
        values.resize_with(self.places, || None);
        for (i, (node, input)) in self.graph.inputs().iter().zip(inputs).enumerate() {
            let input = input
                .f_to_device(self.device)
                .and_then(|x| x.f_to_kind(self.kind))
                .and_then(|x| match self.device {
                    tch::Device::Cpu => convert::channels_last(x),
                    _ => Ok(x),
                });
            values[i] =
                Some(input.map_err(|error| run_error(&self.graph, *node, &reason(&error)))?);
        }
        for step in &self.steps {
            let failed = |what: &str| run_error(&self.graph, step.node, what);
            let operands: Vec<&Tensor> = step
                .operands
                .iter()
                .map(|source| self.at(*source, &values))
                .collect::<Option<_>>()
                .ok_or_else(|| failed("what it reads is gone"))?;
            let call = operators::Call {
                operands: &operands,
                attribute: step.attribute.as_ref(),
                bindings: &bindings,
                training: step.trains && mode != Mode::Evaluation,
            };
            let result = call.evaluate(&step.op).map_err(|what| failed(&what))?;
            values[step.place] = Some(result);
            for place in &step.done {
                values[*place] = None;
            }
        }
        let output = |(output, source): (&crate::ir::Output, &Source)| {
            let value = self.at(*source, &values).map(Tensor::shallow_clone);
            value.ok_or_else(|| run_error(&self.graph, output.value.node, "its value is gone"))
        };
        let outputs = self.graph.outputs().iter().zip(&self.outputs);
        outputs.map(output).collect()
    }

    /// Whether it draws random numbers in training.
    fn draws(&self) -> bool {
        let mut ops = self.steps.iter().map(|step| &step.op);
        ops.any(|op| matches!(op, Op::Dropout { .. }))
    }

    fn at<'v>(&'v self, source: Source, values: &'v [Option<Tensor>]) -> Option<&'v Tensor> {
        match source {
            Source::Constant(i) => self.constants.get(i).map(|weight| &weight.tensor),
            Source::Place(i) => values.get(i)?.as_ref(),
        }
    }

    /// The graph's constants that training changes by gradients: node and variable, in the order of the graph.
    pub fn parameters(&self) -> impl Iterator<Item = (NodeId, &Tensor)> {
        self.of(&[Part::Parameter])
    }

    /// All that training changes: the parameters, and the running statistics of batch norms.
    pub fn state(&self) -> impl Iterator<Item = (NodeId, &Tensor)> {
        self.of(&[Part::Parameter, Part::Statistic])
    }

    fn of(&self, parts: &'static [Part]) -> impl Iterator<Item = (NodeId, &Tensor)> {
        let weights = self.constants.iter();
        weights
            .filter(|weight| parts.contains(&weight.part))
            .map(|weight| (weight.node, &weight.tensor))
    }

    /// The device that it is on.
    pub fn device(&self) -> tch::Device {
        self.device
    }

    /// Puts the state into `graph`, the one this network was made of, each tensor in its own element type. What has not
    /// changed keeps its memory.
    ///
    /// # Errors
    /// [`Error::Run`] with the constant that `graph` lacks, or that libtorch cannot hand over.
    pub fn write_back(&self, graph: &mut Graph) -> Result<()> {
        for (node, tensor) in self.state() {
            let failed = |what: &str| run_error(&self.graph, node, what);
            let old = graph.get(node).and_then(|_| graph.constant(node));
            let old = old.filter(|old| old.tensor.shape() == convert::shape(tensor));
            let old = old.ok_or_else(|| failed("the graph has no such constant any more"))?;
            let new =
                convert::constant(tensor, old.tensor.dtype()).map_err(|what| failed(&what))?;
            if new != old.tensor {
                graph.set_tensor(node, new);
            }
        }
        Ok(())
    }
}

/// The first line of what libtorch says: the others are its own stack.
fn reason(error: &TchError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("libtorch says: {line}")
}
