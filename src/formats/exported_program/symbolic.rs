//! Sizes as `torch.export` writes them: SymPy's expressions, either as it prints them (`2*s0`, `(s0//2)`) or as constructors
//! (`Mul(Integer(2), Symbol('s0', positive=True, integer=True))`).

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use super::schema::tagged;

use crate::formats::sizes::{bounded, remainder};
use crate::ir::{Dim, DimBuilder, Symbol};

/// How deeply an expression may nest.
const MAX_DEPTH: usize = 64;

/// The symbols of a program.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbols {
    /// Symbol -> its constructor, with what SymPy is to assume of it.
    pub constructors: IndexMap<Symbol, String>,
    /// Symbols that stand for an expression that is not understood, which is their text.
    pub foreign: IndexMap<Symbol, String>,
    /// The same by their text.
    by_text: FxHashMap<String, Symbol>,
    /// The numbers that symbols had in the example that was exported.
    pub hints: FxHashMap<Symbol, i64>,
}

impl Symbols {
    /// The size that an expression says. One that is not understood becomes a symbol of its own.
    pub fn read(&mut self, text: &str) -> Dim {
        let mut parser = Parser {
            text,
            at: 0,
            symbols: &mut self.constructors,
        };
        if let Some(dim) = parser.whole() {
            return dim;
        }
        if let Some(symbol) = self.by_text.get(text) {
            return Dim::symbol(symbol.clone());
        }
        // PyTorch's symbols are a letter and a number.
        let symbol: Symbol = format!("expr.{}", self.foreign.len()).into();
        self.foreign.insert(symbol.clone(), text.to_owned());
        self.by_text.insert(text.to_owned(), symbol.clone());
        Dim::symbol(symbol)
    }

    /// A size as the program writes it: `{"as_int": 3}` or `{"as_expr": {"expr_str": "s0", "hint": {"as_int": 2}}}`.
    pub fn read_json(&mut self, json: &Json) -> Option<Dim> {
        match tagged(json)? {
            ("as_int", n) => n.as_i64().map(Dim::from),
            ("as_expr", expression) => {
                let dim = self.read(expression.get("expr_str")?.as_str()?);
                let hint = expression.get("hint").and_then(tagged);
                if let (Some(symbol), Some(("as_int", hint))) = (dim.as_symbol(), hint)
                    && let Some(hint) = hint.as_i64()
                {
                    self.hints.insert(symbol.clone(), hint);
                }
                Some(dim)
            }
            _ => None,
        }
    }

    /// The text of a size.
    pub fn print(&self, dim: &Dim) -> String {
        dim.fold(&mut Constructors(self))
    }

    /// The size in the example that was exported, if it is known.
    pub fn hint(&self, dim: &Dim) -> Option<i64> {
        dim.substitute(&|symbol| self.hints.get(symbol).map(|n| Dim::from(*n)))
            .as_number()
    }
}

/// The constructor of a symbol that is a size.
pub(super) fn constructor(symbol: &str) -> String {
    format!("Symbol('{symbol}', positive=True, integer=True)")
}

/// Prints a size by constructors, the form that reading does not depend on operators' precedence for.
struct Constructors<'s>(&'s Symbols);

impl DimBuilder<String> for Constructors<'_> {
    fn number(&mut self, n: i64) -> String {
        format!("Integer({n})")
    }
    fn symbol(&mut self, name: &Symbol) -> String {
        let known = self.0.constructors.get(name).or(self.0.foreign.get(name));
        known.cloned().unwrap_or_else(|| constructor(name))
    }
    fn add(&mut self, a: String, b: String) -> String {
        format!("Add({a}, {b})")
    }
    fn mul(&mut self, a: String, b: String) -> String {
        format!("Mul({a}, {b})")
    }
    fn floor_div(&mut self, a: String, b: String) -> String {
        format!("FloorDiv({a}, {b})")
    }
    fn max(&mut self, a: String, b: String) -> String {
        format!("Max({a}, {b})")
    }
}

/// A recursive-descent parser; `None` for what is no size that a [`Dim`] can say.
struct Parser<'p> {
    text: &'p str,
    at: usize,
    symbols: &'p mut IndexMap<Symbol, String>,
}

/// An expression on its way to a whole number.
enum Part {
    Whole(Dim),
    /// A quotient that is yet to be rounded.
    Quotient(Dim, Dim),
}

impl Part {
    fn whole(self) -> Option<Dim> {
        match self {
            Part::Whole(dim) => Some(dim),
            Part::Quotient(..) => None,
        }
    }
}

impl<'p> Parser<'p> {
    fn whole(&mut self) -> Option<Dim> {
        let dim = self.sum(MAX_DEPTH)?.whole()?;
        self.peek().is_none().then_some(dim)
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn word(&mut self) -> &'p str {
        self.peek();
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn sum(&mut self, depth: usize) -> Option<Part> {
        let negative = self.eat("-");
        let first = self.product(depth)?;
        if !negative && !matches!(self.peek(), Some('+' | '-')) {
            return Some(first);
        }
        let first = first.whole()?;
        let mut total = if negative { -first } else { first };
        loop {
            if self.eat("+") {
                total = bounded(total + self.product(depth)?.whole()?)?;
            } else if self.eat("-") {
                total = bounded(total - self.product(depth)?.whole()?)?;
            } else {
                return Some(Part::Whole(total));
            }
        }
    }

    fn product(&mut self, depth: usize) -> Option<Part> {
        let mut product = self.power(depth)?;
        loop {
            product = if self.eat("//") {
                let (a, b) = (product.whole()?, self.power(depth)?.whole()?);
                Part::Whole(bounded(a.floor_div(&b))?)
            } else if self.eat("/") {
                Part::Quotient(product.whole()?, self.power(depth)?.whole()?)
            } else if self.eat("*") {
                let (a, b) = (product.whole()?, self.power(depth)?.whole()?);
                Part::Whole(bounded(a * b)?)
            } else {
                return Some(product);
            };
        }
    }

    fn power(&mut self, depth: usize) -> Option<Part> {
        let base = self.atom(depth)?;
        if !self.eat("**") {
            return Some(base);
        }
        let exponent = self.atom(depth)?.whole()?;
        power(&base.whole()?, &exponent).map(Part::Whole)
    }

    fn atom(&mut self, depth: usize) -> Option<Part> {
        let depth = depth.checked_sub(1)?;
        if self.eat("(") {
            let inner = self.sum(depth)?;
            return self.eat(")").then_some(inner);
        }
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return None;
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return word.parse::<i64>().ok().map(|n| Part::Whole(n.into()));
        }
        if !self.eat("(") {
            return self.symbol(word, None).map(Part::Whole);
        }
        match word {
            "Symbol" => self.constructed(start),
            "Integer" => {
                let negative = self.eat("-");
                let n: i64 = self.word().parse().ok()?;
                let n = if negative { n.checked_neg()? } else { n };
                self.eat(")").then_some(Part::Whole(n.into()))
            }
            _ => {
                let mut arguments = vec![self.sum(depth)?];
                while self.eat(",") {
                    arguments.push(self.sum(depth)?);
                }
                if !self.eat(")") {
                    return None;
                }
                call(word, arguments)
            }
        }
    }

    /// `'s0', positive=True, integer=True)`, after the word `Symbol` at `start` and its parenthesis.
    fn constructed(&mut self, start: usize) -> Option<Part> {
        let quote = ["'", "\""].into_iter().find(|quote| self.eat(quote))?;
        let name = self.word();
        if !self.eat(quote) {
            return None;
        }
        while self.eat(",") {
            self.word();
            if !self.eat("=") {
                return None;
            }
            self.word();
        }
        if !self.eat(")") {
            return None;
        }
        let text = self.text[start..self.at].trim().to_owned();
        self.symbol(name, Some(text)).map(Part::Whole)
    }

    fn symbol(&mut self, name: &str, text: Option<String>) -> Option<Dim> {
        if !crate::ir::is_symbol(name) {
            return None;
        }
        let symbol: Symbol = name.into();
        if let Some(text) = text {
            self.symbols.entry(symbol.clone()).or_insert(text);
        }
        Some(Dim::symbol(symbol))
    }
}

fn power(base: &Dim, exponent: &Dim) -> Option<Dim> {
    let exponent = exponent.as_number().filter(|n| (0..=8).contains(n))?;
    (0..exponent).try_fold(Dim::from(1), |product, _| bounded(product * base.clone()))
}

/// A function of SymPy's or of PyTorch's own.
fn call(name: &str, arguments: Vec<Part>) -> Option<Part> {
    if let ("floor" | "FloorToInt" | "TruncToInt" | "CeilToInt" | "ceiling", 1) =
        (name, arguments.len())
    {
        return match arguments.into_iter().next()? {
            // Sizes are not negative, so that rounding to zero rounds down.
            Part::Quotient(a, b) => {
                let rounded = if name.starts_with(['C', 'c']) {
                    a.ceil_div(&b)
                } else {
                    a.floor_div(&b)
                };
                bounded(rounded).map(Part::Whole)
            }
            whole => Some(whole),
        };
    }
    let mut whole = arguments.into_iter().map(Part::whole);
    let first = whole.next()??;
    let rest: Vec<Dim> = whole.collect::<Option<_>>()?;
    let fold = |f: &dyn Fn(Dim, &Dim) -> Dim| {
        let mut rest = rest.iter();
        rest.try_fold(first.clone(), |total, next| bounded(f(total, next)))
    };
    let dim = match (name, rest.as_slice()) {
        ("Add", _) => fold(&|a, b| a + b.clone())?,
        ("Mul", _) => fold(&|a, b| a * b.clone())?,
        ("Max", _) => fold(&|a, b| a.maximum(b))?,
        ("Min", _) => fold(&|a, b| a.minimum(b))?,
        ("Pow" | "PowByNatural", [exponent]) => power(&first, exponent)?,
        ("FloorDiv" | "CleanDiv", [by]) => bounded(first.floor_div(by))?,
        ("CeilDiv", [by]) => bounded(first.ceil_div(by))?,
        ("IntTrueDiv", [by]) => return Some(Part::Quotient(first, by.clone())),
        ("Mod" | "PythonMod", [by]) => bounded(remainder(&first, by))?,
        ("ModularIndexing", [by, modulus]) => bounded(remainder(&first.floor_div(by), modulus))?,
        ("Identity", []) => first,
        _ => return None,
    };
    Some(Part::Whole(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_an_expression_are_the_same_size() {
        let mut symbols = Symbols::default();
        let s0 = constructor("s0");
        for (infix, constructed, dim) in [
            ("s0", s0.clone(), "s0"),
            (
                "2*s0 + 1",
                format!("Add(Mul(Integer(2), {s0}), Integer(1))"),
                "2*s0+1",
            ),
            (
                "(s0//2)",
                format!("FloorDiv({s0}, Integer(2))"),
                "floor(s0/2)",
            ),
            (
                "(s0 - 1)//2 + 1",
                format!("Add(FloorDiv(Add({s0}, Integer(-1)), Integer(2)), Integer(1))"),
                "floor((s0+1)/2)",
            ),
            (
                "floor(s0/4)",
                format!("FloorToInt(IntTrueDiv({s0}, Integer(4)))"),
                "floor(s0/4)",
            ),
            ("Max(1, s0)", format!("Max(Integer(1), {s0})"), "max(1,s0)"),
            ("s0**2", format!("Pow({s0}, Integer(2))"), "s0*s0"),
            (
                "Mod(s0, 8)",
                format!("Mod({s0}, Integer(8))"),
                "s0-8*floor(s0/8)",
            ),
        ] {
            let dim: Dim = dim.parse().unwrap();
            assert_eq!(symbols.read(infix), dim, "{infix}");
            assert_eq!(symbols.read(&constructed), dim, "{constructed}");
            let printed = symbols.print(&dim);
            assert_eq!(symbols.read(&printed), dim, "{printed}");
        }
        assert!(symbols.foreign.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_kept_as_it_is() {
        let mut symbols = Symbols::default();
        let deep = format!("{}s0{}", "(".repeat(1000), ")".repeat(1000));
        let long = (0..300)
            .map(|i| format!("s{i}"))
            .collect::<Vec<_>>()
            .join("+");
        for text in [
            "s0/2",
            "Where(s0 > 1, 2, 3)",
            "",
            "s0 +",
            "1e9",
            "f(",
            "ä",
            "'",
            &deep,
            &long,
        ] {
            let dim = symbols.read(text);
            assert_eq!(symbols.print(&dim), text);
            assert_eq!(symbols.read(text), dim);
        }
    }
}
