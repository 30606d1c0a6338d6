//! One operator with its attributes, `conv{stride=[2,2]}`, and a graph built of such.

use std::sync::Arc;

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::super::attribute::Attribute;
use super::super::dim::Dims;
use super::super::graph::{Graph, NodeId, Value};
use super::super::op::{Dialect, Op, Opaque};
use super::super::types::Type;
use super::cursor::{Cursor, Mistake, Parsed};
use super::defaults::defaults;
use crate::Result;
use crate::error::nearest;

/// Names of attributes, and their values as they are printed.
pub(super) type Attributes = IndexMap<String, String>;

impl Graph {
    /// Adds an operation as the text form writes it without its operands. Attributes with their usual value may be left out.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use optc::ir::{Constant, Graph, Role, Tensor};
    ///
    /// let mut graph = Graph::new("net");
    /// let x = graph.add_input("x", "f32[N,3,32,32]".parse()?);
    /// let weight = Tensor::from_vec(&[16, 3, 3, 3], vec![0.1f32; 16 * 27]);
    /// let weight = graph.add_constant("conv.weight", Constant::new(weight, Role::Parameter));
    /// let conv = graph.add("conv", "conv{pad=[1,1]}", &[x.into(), weight.into()])?;
    /// let relu = graph.add("relu", "relu", &[conv.into()])?;
    /// graph.add_output("y", relu.into());
    /// assert_eq!(graph.ty(relu.into()).to_string(), "f32[N,16,32,32]");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Text`](crate::Error::Text) where there is no such operator or attribute, or the operands do not fit.
    pub fn add(&mut self, name: &str, op: &str, operands: &[Value]) -> Result<NodeId> {
        let ranks: Vec<_> = operands.iter().map(|v| self.ty(*v).rank()).collect();
        let mut cursor = Cursor::new(op);
        let parsed = (|| {
            let word = cursor.word("an operator")?;
            let attributes = attributes(&mut cursor)?;
            match cursor.peek() {
                None => known(0, word, attributes, &ranks),
                Some(_) => Err(cursor.unexpected("nothing after the operator")),
            }
        })();
        let node = parsed.and_then(|op| {
            let node = self.add_op(name, op, operands);
            node.map_err(|error| Mistake::new(0, error))
        });
        node.map_err(|mistake| mistake.in_text(op))
    }
}

/// `{stride=[2,2], groups=1}`, or nothing: names and printed values.
pub(super) fn attributes(cursor: &mut Cursor) -> Parsed<Attributes> {
    let mut attributes = Attributes::new();
    if !cursor.eat('{') {
        return Ok(attributes);
    }
    while cursor.peek() != Some('}') {
        let at = cursor.at();
        let field = cursor.word("an attribute")?;
        cursor.expect('=')?;
        let text = cursor.raw_until(&[','])?;
        if attributes
            .insert(field.to_string(), text.to_string())
            .is_some()
        {
            return Err(Mistake::new(at, format!("`{field}` is there twice")));
        }
        if !cursor.eat(',') {
            break;
        }
    }
    cursor.expect('}')?;
    Ok(attributes)
}

/// The operator of this name. What `ranks`, those of its operands, say to be usual need not be among the attributes.
pub(super) fn known(
    at: usize,
    name: &str,
    mut attributes: Attributes,
    ranks: &[Option<usize>],
) -> Parsed<Op> {
    for (field, usual) in defaults(name, ranks) {
        attributes.entry(field.to_string()).or_insert(usual);
    }
    let op = Op::parse(name, &mut attributes);
    let op = op.map_err(|error| unknown_operator(Mistake::new(at, error), name))?;
    refuse_unknown(at, &op, &attributes)?;
    Ok(op)
}

fn refuse_unknown(at: usize, op: &Op, left: &Attributes) -> Parsed<()> {
    let Some((field, _)) = left.first() else {
        return Ok(());
    };
    let what = format!("`{}` has no attribute `{field}`", op.name());
    let names: Vec<&str> = op.attributes().into_iter().map(|(n, _)| n).collect();
    let help = if names.is_empty() {
        String::new()
    } else {
        format!("it has {}", names.join(", "))
    };
    Err(Mistake::new(at, what).help(help))
}

/// An operator of another format, with the types of its results.
pub(super) fn opaque(
    at: usize,
    name: Arc<str>,
    mut attributes: Attributes,
    outputs: SmallVec<[Type; 1]>,
) -> Parsed<Op> {
    let op = opaque_op(name, &mut attributes, outputs);
    let op = op.map_err(|error| Mistake::new(at, error))?;
    refuse_unknown(at, &op, &attributes)?;
    Ok(op)
}

fn opaque_op(
    name: Arc<str>,
    attributes: &mut Attributes,
    outputs: SmallVec<[Type; 1]>,
) -> Result<Op, String> {
    let template = attributes
        .shift_remove("template")
        .ok_or("opaque needs the attribute `template`")?;
    let sizes = match attributes.shift_remove("sizes") {
        Some(sizes) => Dims::parse(&sizes)?,
        None => Default::default(),
    };
    let dialect = match attributes.shift_remove("dialect") {
        Some(dialect) => Dialect::parse(&dialect)?,
        None => Dialect::default(),
    };
    Ok(Op::Opaque(Arc::new(Opaque {
        dialect,
        name,
        template: Attribute::parse(&template)?,
        sizes: sizes.into_iter().collect(),
        outputs,
    })))
}

/// Adds the nearest operator's name, if there is no such operator.
fn unknown_operator(mistake: Mistake, name: &str) -> Mistake {
    if Op::NAMES.contains(&name) {
        return mistake;
    }
    match nearest(name, Op::NAMES.iter().copied()) {
        Some(nearest) => mistake.help(format!("is `{nearest}` meant?")),
        None => mistake.help(format!("the operators are: {}", Op::NAMES.join(", "))),
    }
}
