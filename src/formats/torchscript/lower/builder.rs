//! What the table of [`aten`](crate::formats::aten) needs to add operators to the graph, and to learn of inputs.

use rustc_hash::FxHashMap;

use super::unknown;
use crate::error::FormatError;
use crate::formats::aten::{Builder, Stop, Template};
use crate::formats::torchscript::eval::{Eval, Evaluator};
use crate::ir::{self, Constant, DType, Dim, Op, Opaque, Role, Tensor, Type};

impl Evaluator<'_> {
    /// The name of the next node: the module's path, and the operator's unless the module is nothing but that.
    pub(super) fn node_name(&self, label: &str) -> String {
        let leaf = !self.scope.is_empty() && self.is_leaf();
        let name = match (leaf, self.scope.is_empty()) {
            (true, _) => self.scope.to_string(),
            (false, true) => label.to_owned(),
            (false, false) => format!("{}.{label}", self.scope),
        };
        // Parameters keep their names, whoever comes first.
        if self.is_parameter_name(&name) {
            name + ".op"
        } else {
            name
        }
    }

    /// Whether all operands are floating-point tensors of one type.
    fn alike(&self, operands: &[ir::Value]) -> bool {
        let mut dtypes = operands.iter().map(|v| self.graph.ty(*v).dtype());
        let first = dtypes.next().flatten();
        first.is_some_and(DType::is_float) && dtypes.all(|d| d == first)
    }

    /// Whether the operands' sizes are such long expressions that inference may have given up on them.
    fn is_involved(&self, op: &Op, operands: &[ir::Value]) -> bool {
        let attribute = match op {
            Op::Reshape { shape } | Op::Expand { shape } => shape.as_slice(),
            _ => &[],
        };
        let shapes = operands.iter().filter_map(|v| self.graph.ty(*v).shape());
        shapes
            .flatten()
            .chain(attribute)
            .flat_map(Dim::symbols)
            .count()
            > 16
    }

    /// The input from which a value comes by nothing but operators that keep the number of dimensions.
    fn source_input(&self, value: ir::Value) -> Option<String> {
        let mut value = value;
        loop {
            let node = self.graph.node(value.node);
            match &node.kind {
                ir::NodeKind::Input => return Some(node.name.to_string()),
                ir::NodeKind::Constant(_) => return None,
                ir::NodeKind::Op(Op::Opaque(opaque)) if unknown::changes_rank(&opaque.name) => {
                    return None;
                }
                ir::NodeKind::Op(_) => {
                    let operands = self.graph.operands(value.node);
                    let mut others = operands
                        .iter()
                        .filter(|v| self.graph.constant(v.node).is_none());
                    match (others.next(), others.next()) {
                        (Some(only), None) if self.graph.ty(*only).shape().is_none() => {
                            value = *only
                        }
                        _ => return None,
                    }
                }
            }
        }
    }

    fn symbol_source(&self, symbol: &ir::Symbol) -> Option<(String, usize)> {
        self.graph.inputs().iter().find_map(|&input| {
            let shape = self.graph.ty(input.into()).shape()?;
            let axis = shape
                .iter()
                .position(|dim| dim.as_symbol() == Some(symbol))?;
            Some((self.graph.node(input).name.to_string(), axis))
        })
    }
}

impl Builder for Evaluator<'_> {
    fn graph(&self) -> &ir::Graph {
        &self.graph
    }

    fn emit(&mut self, label: &str, op: Op, operands: &[ir::Value]) -> Eval<Option<ir::Value>> {
        self.step()?;
        let involved = self.is_involved(&op, operands);
        match self.graph.infer(&op, operands) {
            Ok(outputs) => {
                let name = self.node_name(label);
                Ok(Some(
                    self.graph.add_typed_op(&name, op, operands, outputs).into(),
                ))
            }
            Err(what) if self.alike(operands) && !involved => self.fail(
                format!("the shapes of {} do not fit: {what}", op.name()),
                "give the input's shape with --input, or check the one that is given; if it is right, the file is damaged",
            ),
            Err(_) => Ok(None),
        }
    }

    fn scalars(&mut self) -> &mut FxHashMap<(u64, DType), ir::Value> {
        &mut self.scalars
    }

    fn literal(&mut self, name: &str, tensor: Tensor) -> ir::Value {
        let constant = Constant::new(tensor, Role::Literal);
        self.graph.add_constant(name, constant).into()
    }

    fn demand(
        &mut self,
        value: ir::Value,
        sizes: &[Option<i64>],
        dtype: Option<DType>,
    ) -> Eval<()> {
        if self.quiet {
            return Ok(());
        }
        if let (Some(dtype), Some(known)) = (dtype, self.graph.ty(value).dtype())
            && dtype != known
            && let Some(input) = self.source_input(value)
            && self.facts.dtypes.insert(input, dtype).is_none()
        {
            return Err(Stop::Restart);
        }
        match self.shape(value) {
            None => {
                if let Some(input) = self.source_input(value)
                    && !self.facts.shapes.contains_key(&input)
                {
                    // Its sizes are told once its rank is known, by what really becomes of each.
                    self.facts.shapes.insert(input, vec![None; sizes.len()]);
                    return Err(Stop::Restart);
                }
            }
            Some(shape) if shape.len() == sizes.len() => {
                for (dim, size) in shape.iter().zip(sizes) {
                    if let (Some(symbol), Some(n)) = (dim.as_symbol(), size)
                        && let Some((input, axis)) = self.symbol_source(symbol)
                        && let Some(sizes) = self.facts.shapes.get_mut(&input)
                        && let Some(slot @ None) = sizes.get_mut(axis)
                    {
                        *slot = Some(*n);
                        return Err(Stop::Restart);
                    }
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn training(&self, what: &str) -> Stop {
        let what = format!("{what} runs as in training");
        Stop::Error(FormatError::Training {
            what,
            at: self.location(),
        })
    }

    fn slice_scatter(
        &mut self,
        whole_and_part: [ir::Value; 2],
        axis: usize,
        bounds: [&Dim; 2],
        step: usize,
    ) -> Eval<ir::Value> {
        let template = Template {
            text: format!("torch.slice_scatter({{0}}, {{1}}, {axis}, {{$0}}, {{$1}}, {step})"),
            operands: whole_and_part.to_vec(),
            sizes: bounds.map(Dim::clone).to_vec(),
        };
        let ty = self.graph.ty(whole_and_part[0]).clone();
        let node = self.add_opaque("aten::slice_scatter", template, vec![ty])?;
        Ok(node.into())
    }

    fn type_as(&mut self, x: ir::Value, other: ir::Value) -> Eval<ir::Value> {
        let template = Template {
            text: "torch.type_as({0}, {1})".to_owned(),
            operands: vec![x, other],
            sizes: Vec::new(),
        };
        let dtype = self.graph.ty(other).dtype().unwrap_or(DType::F32);
        let ty = Type::Tensor(dtype, self.shape(x));
        Ok(self.add_opaque("aten::type_as", template, vec![ty])?.into())
    }

    fn scatter(
        &mut self,
        view: &Opaque,
        operands: &[ir::Value],
        part: ir::Value,
    ) -> Eval<Option<ir::Value>> {
        // Parts of unknown sizes, or of a tensor of unknown rank.
        let call = ["slice", "select"].into_iter().find_map(|name| {
            let arguments = view
                .template
                .strip_prefix(&format!("torch.{name}({{0}}, "))?;
            Some((name, arguments))
        });
        let Some((name, arguments)) = call else {
            return Ok(None);
        };
        let template = Template {
            text: format!(
                "torch.{name}_scatter({{0}}, {{{}}}, {arguments}",
                operands.len()
            ),
            operands: operands.iter().copied().chain([part]).collect(),
            sizes: view.sizes.to_vec(),
        };
        let ty = self.graph.ty(operands[0]).clone();
        let node = self.add_opaque(&format!("aten::{name}_scatter"), template, vec![ty])?;
        Ok(Some(node.into()))
    }
}
