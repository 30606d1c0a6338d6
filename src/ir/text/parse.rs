//! Parsing.

use std::str::FromStr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::super::dim::is_symbol;
use super::super::graph::{Constant, Graph, NodeId, Role, Value};
use super::super::mask::Mask;
use super::super::op::Op;
use super::super::tensor::{DType, Tensor};
use super::super::types::{Type, TypeError};
use super::super::verify::{Violation, verify};
use super::cursor::{Cursor, Mistake, Parsed};
use super::elements::Weights;
use super::operator;
use super::print::role_name;
use super::values;
use crate::{Error, Result};

/// How many positions all indices of a text may have: their short form says more than it is long.
const MAX_POSITIONS: usize = 1 << 24;

/// Reads a graph. Elements that the text leaves out are those of the constant of `weights` with the same hash, type and shape.
///
/// # Errors
/// [`Error::Text`] points at the first mistake; [`Error::Invalid`] lists which rules of the IR the graph breaks.
#[doc(hidden)]
pub fn parse(text: &str, weights: &Graph) -> Result<Graph> {
    let mut parser = Parser {
        cursor: Cursor::new(text),
        graph: Graph::new(""),
        named: FxHashMap::default(),
        weights: Weights::of(weights),
        positions: 0,
    };
    parser.graph().map_err(|mistake| mistake.in_text(text))?;
    let graph = parser.graph;
    match verify(&graph) {
        Ok(_) => Ok(graph),
        Err(violations) => Err(Error::Invalid {
            stage: "the text".to_string(),
            violations: violations.iter().map(Violation::to_string).collect(),
        }),
    }
}

/// As [`parse`] for a text with all elements.
impl FromStr for Graph {
    type Err = Error;

    fn from_str(text: &str) -> Result<Graph> {
        parse(text, &Graph::new(""))
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    graph: Graph,
    named: FxHashMap<Arc<str>, NodeId>,
    weights: Weights,
    /// Positions of all indices so far.
    positions: usize,
}

impl Parser<'_> {
    fn graph(&mut self) -> Parsed<()> {
        if !self.cursor.eat_word("graph") {
            let mistake = self.cursor.unexpected("`graph`");
            return Err(mistake.help("a text looks like: graph net(%x: f32[N,3]) { return %x }"));
        }
        self.graph.name = self.cursor.name()?.to_string();
        self.cursor.expect('(')?;
        while self.cursor.peek() != Some(')') {
            self.input()?;
            if !self.cursor.eat(',') {
                break;
            }
        }
        self.cursor.expect(')')?;
        if self.cursor.eat_word("where") {
            self.binding()?;
            while self.cursor.eat(',') {
                self.binding()?;
            }
        }
        self.cursor.expect('{')?;
        while !self.cursor.eat_word("return") {
            match self.cursor.peek() {
                Some('%') => self.operation()?,
                Some('@') => self.constant()?,
                _ => {
                    return Err(self
                        .cursor
                        .unexpected("`%name = ..`, `@name = ..` or `return`"));
                }
            }
        }
        while self.cursor.peek() != Some('}') {
            self.output()?;
            if !self.cursor.eat(',') {
                break;
            }
        }
        self.cursor.expect('}')?;
        match self.cursor.peek() {
            None => Ok(()),
            Some(_) => Err(self.cursor.unexpected("nothing after the graph")),
        }
    }

    fn input(&mut self) -> Parsed<()> {
        let name = self.new_name('%')?;
        self.cursor.expect(':')?;
        let (_, ty) = self.ty()?;
        let node = self.graph.add_input(&name, ty);
        self.named.insert(name, node);
        Ok(())
    }

    /// `N=1`.
    fn binding(&mut self) -> Parsed<()> {
        let at = self.cursor.at();
        let symbol = self.cursor.word("the name of a size")?;
        if !is_symbol(symbol) {
            return Err(Mistake::new(at, format!("`{symbol}` is no name of a size")));
        }
        self.cursor.expect('=')?;
        let number: u32 = self.cursor.parsed("a size")?;
        match self.graph.bindings.insert(symbol.into(), number.into()) {
            None => Ok(()),
            Some(_) => Err(Mistake::new(at, format!("`{symbol}` has a number already"))),
        }
    }

    /// `@name = parameter 0.5 mask [1, 0, 1] alias other : f32[3]`.
    fn constant(&mut self) -> Parsed<()> {
        let name = self.new_name('@')?;
        self.cursor.expect('=')?;
        let roles = [Role::Parameter, Role::Buffer, Role::Literal];
        let mut words = roles.into_iter();
        let role = words.find(|role| self.cursor.eat_word(role_name(*role)));
        let role = role.ok_or_else(|| self.cursor.unexpected("parameter, buffer or literal"))?;
        let at = self.cursor.at();
        let value = values::parse(&mut self.cursor)?;
        let mask = if self.cursor.eat_word("mask") {
            Some((self.cursor.at(), values::parse(&mut self.cursor)?))
        } else {
            None
        };
        let mut aliases = Vec::new();
        if self.cursor.eat_word("alias") {
            aliases.push(self.cursor.name()?);
            while self.cursor.eat(',') {
                aliases.push(self.cursor.name()?);
            }
        }
        self.cursor.expect(':')?;
        let (type_at, ty) = self.ty()?;
        let shape: Option<Vec<usize>> = ty
            .shape()
            .and_then(|shape| shape.iter().map(|d| d.as_len()).collect());
        let (Some(dtype), Some(shape)) = (ty.dtype(), shape) else {
            let what = format!("{ty} is no constant's type: its sizes must be numbers");
            return Err(Mistake::new(type_at, what));
        };
        let tensor: Tensor = self.weights.tensor(&value, dtype, &shape, at)?;
        let mask = mask.map(|(at, value)| self.weights.tensor(&value, DType::Bool, &shape, at));
        let constant = Constant {
            aliases,
            mask: mask.transpose()?.map(|mask| Mask::of(&mask)),
            ..Constant::new(tensor, role)
        };
        let node = self.graph.add_constant(&name, constant);
        self.named.insert(name, node);
        Ok(())
    }

    /// `%name = op(%x, @w) {stride=[2,2]} : f32[N,3]`.
    fn operation(&mut self) -> Parsed<()> {
        let name = self.new_name('%')?;
        self.cursor.expect('=')?;
        let at = self.cursor.at();
        let op_name = self.cursor.word("an operator")?;
        let opaque = match op_name {
            "opaque" => Some(self.cursor.name()?),
            _ => None,
        };
        self.cursor.expect('(')?;
        let mut operands: SmallVec<[Value; 4]> = SmallVec::new();
        while self.cursor.peek() != Some(')') {
            operands.push(self.value()?);
            if !self.cursor.eat(',') {
                break;
            }
        }
        self.cursor.expect(')')?;
        let attributes = operator::attributes(&mut self.cursor)?;
        let types_at = self.cursor.at();
        let types = self.types()?;
        let op = match opaque {
            Some(name) => {
                let outputs = types.clone().unwrap_or_default();
                operator::opaque(at, name, attributes, outputs)?
            }
            None => {
                let ranks: Vec<_> = operands.iter().map(|v| self.graph.ty(*v).rank()).collect();
                operator::known(at, op_name, attributes, &ranks)?
            }
        };
        if let Op::Gather { index, .. } = &op {
            self.positions += index.len();
            if self.positions > MAX_POSITIONS {
                return Err(Mistake::new(
                    at,
                    format!("over {MAX_POSITIONS} positions in indices"),
                ));
            }
        }
        let node = self.graph.add_op(&name, op, &operands);
        let node = node.map_err(|error| Mistake::new(at, error))?;
        if let Some(types) = types {
            let inferred = &self.graph.node(node).outputs;
            if *inferred != types && inferred.iter().all(|ty| ty.shape().is_some()) {
                let inferred: Vec<String> = inferred.iter().map(Type::to_string).collect();
                let what = format!("the type is {}", inferred.join(", "));
                return Err(Mistake::new(types_at, what));
            }
            // What inference cannot know the text may: the verifier sees to the rest.
            self.graph.set_types(node, types);
        }
        self.named.insert(name, node);
        Ok(())
    }

    /// `: f32[3], i64[*]`, or nothing.
    fn types(&mut self) -> Parsed<Option<SmallVec<[Type; 1]>>> {
        if !self.cursor.eat(':') {
            return Ok(None);
        }
        let mut types = SmallVec::new();
        types.push(self.ty()?.1);
        while self.cursor.eat(',') {
            types.push(self.ty()?.1);
        }
        Ok(Some(types))
    }

    /// A type, and where it stands.
    fn ty(&mut self) -> Parsed<(usize, Type)> {
        let at = self.cursor.at();
        let text = self.cursor.word_with_brackets()?;
        let ty = text.parse();
        let ty = ty.map_err(|error: TypeError| Mistake::new(at, error))?;
        Ok((at, ty))
    }

    /// `%x`, or `y=%x`.
    fn output(&mut self) -> Parsed<()> {
        let own = match self.cursor.peek() {
            Some('%' | '@') => None,
            _ => Some(self.cursor.name()?),
        };
        if own.is_some() {
            self.cursor.expect('=')?;
        }
        let value = self.value()?;
        let name = own.unwrap_or_else(|| self.graph.node(value.node).name.clone());
        self.graph.add_output(name, value);
        Ok(())
    }

    /// The name of a value that is being defined.
    fn new_name(&mut self, sigil: char) -> Parsed<Arc<str>> {
        self.cursor.expect(sigil)?;
        let at = self.cursor.at();
        let name = self.cursor.name()?;
        if self.named.contains_key(&name) {
            Err(Mistake::new(at, format!("the name `{name}` is taken")))
        } else {
            Ok(name)
        }
    }

    /// `%name`, `%name#1` or `@name`.
    fn value(&mut self) -> Parsed<Value> {
        let at = self.cursor.at();
        let is_constant = self.cursor.eat('@');
        if !is_constant {
            self.cursor.expect('%')?;
        }
        let name = self.cursor.name()?;
        let port: u32 = if self.cursor.eat('#') {
            self.cursor.parsed("the number of a result")?
        } else {
            0
        };
        let Some(node) = self.named.get(&name).copied() else {
            let help = "every value is defined above the line that uses it";
            return Err(Mistake::new(at, format!("there is no value `{name}` yet")).help(help));
        };
        if self.graph.constant(node).is_some() != is_constant {
            let what = if is_constant {
                format!("`{name}` is no constant: write `%{name}`")
            } else {
                format!("`{name}` is a constant: write `@{name}`")
            };
            return Err(Mistake::new(at, what));
        }
        if (port as usize) < self.graph.node(node).outputs.len() {
            Ok(Value { node, port })
        } else {
            Err(Mistake::new(at, format!("`{name}` has no result {port}")))
        }
    }
}
