//! Pipelines as text: `canonicalize,red{hash=none,error=0.05},repeat{max=3}(fold-batch-norm,red)`.
//!
//! ```text
//! pipeline = [ step { "," step } ]
//! step     = NAME [ options ] | "repeat" [ options ] "(" pipeline ")"
//! options  = "{" [ option { "," option } ] "}"
//! option   = NAME [ "=" VALUE ]
//! ```
//! Blanks may stand between any two of these. An empty pipeline has no passes.

use std::fmt;
use std::sync::Arc;

use super::method::{Method, Methods};
use super::options::{OptionSpec, OptionValue, Options, Values};
use super::pass::Group;
use super::registry::Registry;
use super::{Pipeline, Step};
use crate::error::nearest;
use crate::{Error, Result};

/// A word of pipelines that is no pass but holds passes in parentheses.
#[derive(Debug)]
pub struct Combinator {
    /// The word.
    pub name: &'static str,
    /// One line that says what it does.
    pub summary: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
}

/// `repeat(...)`.
pub static REPEAT: Combinator = Combinator {
    name: "repeat",
    summary: "run the passes in parentheses again and again until nothing changes",
    options: &[OptionSpec {
        name: "max",
        values: Values::Count { min: 1, max: 1000 },
        default: "10",
        help: "how often at most, if something still changes",
    }],
};

/// How deep parentheses may be nested.
const MAX_NESTING: usize = 16;

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_steps(f, &self.steps)
    }
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    for (i, step) in steps.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        match step {
            Step::Pass { pass, options } => write!(f, "{}{options}", pass.info().name)?,
            Step::Repeat { options, steps, .. } => write_held(f, REPEAT.name, options, steps)?,
            Step::Group {
                group,
                options,
                steps,
                ..
            } => write_held(f, group.info.name, options, steps)?,
        }
    }
    Ok(())
}

fn write_held(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    options: &Options,
    steps: &[Step],
) -> fmt::Result {
    write!(f, "{name}{options}(")?;
    write_steps(f, steps)?;
    f.write_str(")")
}

/// `{name=value,...}` with what differs from the defaults; nothing if all are defaults.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<String> = self
            .changed()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", changed.join(","))
    }
}

/// Reads a pipeline of the registry's passes.
pub(super) fn parse(text: &str, registry: &Registry) -> Result<Pipeline> {
    let mut parser = Parser {
        text,
        at: 0,
        registry,
    };
    let steps = if parser.peek().is_none() {
        Vec::new()
    } else {
        parser.steps(0)?
    };
    match parser.peek() {
        None => Ok(Pipeline { steps }),
        Some(')') => Err(parser.error("`)` closes nothing", "")),
        Some('}') => Err(parser.error("`}` closes nothing", "")),
        Some(_) => Err(parser.error("expected `,` and another pass, or the end", "")),
    }
}

/// The pipeline with adjacent passes that offer something sharing one budget, such as `within{macs=0.7}`.
pub(super) fn under(pipeline: Pipeline, budget: &str, registry: &Registry) -> Result<Pipeline> {
    let mut parser = Parser {
        text: budget,
        at: 0,
        registry,
    };
    let (at, name) = parser.name();
    let Some(group) = registry.group(name) else {
        return Err(parser.unknown_pass(at, name));
    };
    let options = parser.options(&format!("`{name}`"), group.info.options)?;
    let mut steps = Vec::new();
    let mut sharing: Vec<Step> = Vec::new();
    let mut shared = false;
    for step in pipeline.steps {
        if method_of(&step).is_some() {
            sharing.push(step);
            continue;
        }
        shared |= !sharing.is_empty();
        steps.extend(share(group, &options, &mut sharing)?);
        steps.push(step);
    }
    shared |= !sharing.is_empty();
    steps.extend(share(group, &options, &mut sharing)?);
    if shared {
        return Ok(Pipeline { steps });
    }
    let pipeline = Pipeline { steps };
    Err(Error::Usage {
        what: format!("no pass of `{pipeline}` can share a budget"),
        help: SHARING.into(),
    })
}

/// What the steps of a pipeline offer, each of which has to.
pub(super) fn methods(pipeline: &Pipeline) -> Result<Methods> {
    let method = |step: &Step| {
        method_of(step).ok_or_else(|| Error::Usage {
            what: format!("a pass of `{pipeline}` offers nothing to choose from"),
            help: SHARING.into(),
        })
    };
    pipeline.steps.iter().map(method).collect()
}

/// Which passes offer something.
const SHARING: &str =
    "those that do are lossy ones without a budget of their own, such as red,lrf,lowrank,cut";

/// What a step can offer.
fn method_of(step: &Step) -> Option<Arc<dyn Method>> {
    match step {
        Step::Pass { pass, .. } => pass.method(),
        _ => None,
    }
}

/// One step of those that share a budget, if there are any.
fn share(
    group: &'static Group,
    options: &Options,
    sharing: &mut Vec<Step>,
) -> Result<Option<Step>> {
    if sharing.is_empty() {
        return Ok(None);
    }
    let steps = std::mem::take(sharing);
    let methods = steps.iter().filter_map(method_of).collect();
    Ok(Some(Step::Group {
        group,
        options: options.clone(),
        steps,
        pass: (group.build)(options, methods)?,
    }))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    registry: &'a Registry,
}

impl<'a> Parser<'a> {
    fn steps(&mut self, depth: usize) -> Result<Vec<Step>> {
        let mut steps = vec![self.step(depth)?];
        while self.eat(',') {
            steps.push(self.step(depth)?);
        }
        Ok(steps)
    }

    fn step(&mut self, depth: usize) -> Result<Step> {
        let (at, name) = self.name();
        if name == REPEAT.name {
            return self.repeat(at, depth);
        }
        if let Some(group) = self.registry.group(name) {
            return self.group(at, group, depth);
        }
        let Some(info) = self.registry.find(name) else {
            return Err(self.unknown_pass(at, name));
        };
        let options = self.options(&format!("the pass `{name}`"), info.options)?;
        let pass = self.built(at, (info.build)(&options))?;
        if self.peek() == Some('(') {
            let repeat = REPEAT.name;
            let what = format!("`{name}` takes no passes in parentheses");
            let help =
                format!("options go in braces, `{name}{{...}}`; only `{repeat}(...)` holds passes");
            return Err(self.error(what, help));
        }
        Ok(Step::Pass { pass, options })
    }

    fn repeat(&mut self, at: usize, depth: usize) -> Result<Step> {
        let repeat = REPEAT.name;
        let options = self.options(&format!("`{repeat}`"), REPEAT.options)?;
        let steps = self.held(at, repeat, "repeat", depth)?;
        let max = options.get("max")?;
        Ok(Step::Repeat {
            max,
            options,
            steps,
        })
    }

    /// A pass that is made of those in parentheses.
    fn group(&mut self, at: usize, group: &'static Group, depth: usize) -> Result<Step> {
        let name = group.info.name;
        let options = self.options(&format!("`{name}`"), group.info.options)?;
        let inside = self.skip_blanks(self.at) + 1;
        let steps = self.held(at, name, "choose among", depth)?;
        let mut methods = Vec::new();
        for step in &steps {
            let Some(method) = method_of(step) else {
                let what = format!("a pass in `{name}` offers nothing to choose from");
                let help = "passes that have a budget of their own, and exact ones, go beside it";
                return Err(self.error_at(inside, what, help));
            };
            methods.push(method);
        }
        let pass = self.built(at, (group.build)(&options, methods))?;
        Ok(Step::Group {
            group,
            options,
            steps,
            pass,
        })
    }

    /// The steps in parentheses behind `name`, which are there to `verb`.
    fn held(&mut self, at: usize, name: &str, verb: &str, depth: usize) -> Result<Vec<Step>> {
        if depth >= MAX_NESTING {
            let what = format!("`{name}` is nested deeper than {MAX_NESTING}");
            return Err(self.error_at(at, what, ""));
        }
        let open = self.skip_blanks(self.at);
        if !self.eat('(') {
            let what = format!("`{name}` needs the passes to {verb}");
            return Err(self.error(what, format!("write `{name}(PASS,...)`")));
        }
        let steps = self.steps(depth + 1)?;
        match self.peek() {
            Some(')') => self.at += 1,
            None => return Err(self.error_at(open, "`(` is not closed", "")),
            Some(_) => return Err(self.error("expected `,` and another pass, or `)`", "")),
        }
        Ok(steps)
    }

    /// What was built, or what is wrong with the options at `at`.
    fn built<T>(&self, at: usize, built: Result<T>) -> Result<T> {
        built.map_err(|error| match error {
            Error::Usage { what, help } => self.error_at(at, what, help),
            error => self.error_at(at, error, ""),
        })
    }

    /// The options in braces, if any; `owner` takes them.
    fn options(&mut self, owner: &str, specs: &'static [OptionSpec]) -> Result<Options> {
        let mut options = Options::defaults(specs)?;
        let open = self.skip_blanks(self.at);
        if !self.eat('{') || self.eat('}') {
            return Ok(options);
        }
        let mut seen: Vec<&str> = Vec::new();
        loop {
            let (at, name) = self.name();
            let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                return Err(self.unknown_option(at, name, owner, specs));
            };
            if seen.contains(&name) {
                return Err(self.error_at(at, format!("`{name}` is set twice"), "keep one"));
            }
            seen.push(name);
            options.set(name, self.value(at, spec)?);
            match self.peek() {
                Some(',') => self.at += 1,
                Some('}') => {
                    self.at += 1;
                    return Ok(options);
                }
                _ => return Err(self.error_at(open, "`{` is not closed", "")),
            }
        }
    }

    fn value(&mut self, name_at: usize, spec: &OptionSpec) -> Result<OptionValue> {
        let help = format!(
            "`{}`: {}; {}, default {}",
            spec.name, spec.help, spec.values, spec.default
        );
        let has_value = self.eat('=');
        if !has_value && spec.values == Values::Flag {
            return Ok(OptionValue::Flag(true));
        }
        let at = self.skip_blanks(self.at);
        let rest = &self.text[at..];
        let value = rest[..rest.find([',', '}']).unwrap_or(rest.len())].trim_end();
        if !has_value || value.is_empty() {
            return Err(self.error_at(name_at, format!("`{}` needs a value", spec.name), help));
        }
        self.at = at + value.len();
        spec.values
            .parse(value)
            .map_err(|_| self.error_at(at, format!("`{value}` is not {}", spec.values), help))
    }

    /// The name that stands here, empty if there is none, and where it starts.
    fn name(&mut self) -> (usize, &'a str) {
        let at = self.skip_blanks(self.at);
        let rest = &self.text[at..];
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_' || c == '.'))
            .unwrap_or(rest.len());
        self.at = at + end;
        (at, &rest[..end])
    }

    fn peek(&mut self) -> Option<char> {
        self.at = self.skip_blanks(self.at);
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn skip_blanks(&self, at: usize) -> usize {
        self.text.len() - self.text[at..].trim_start().len()
    }

    fn unknown_pass(&self, at: usize, name: &str) -> Error {
        let known = || self.registry.passes().iter().map(|pass| pass.name);
        let groups = self.registry.groups().iter().map(|group| group.info.name);
        let names = known().chain([REPEAT.name]).chain(groups);
        let what = match name {
            "" => "expected the name of a pass".to_string(),
            _ => format!("there is no pass `{name}`"),
        };
        let list: Vec<&str> = known().collect();
        let help = format!(
            "{}the passes are {}; `{}(...)` repeats some of them until nothing changes",
            did_you_mean(name, names),
            list.join(", "),
            REPEAT.name
        );
        self.error_at(at, what, help)
    }

    fn unknown_option(&self, at: usize, name: &str, owner: &str, specs: &[OptionSpec]) -> Error {
        let what = match name {
            "" => "expected the name of an option".to_string(),
            _ => format!("{owner} has no option `{name}`"),
        };
        let list: Vec<String> = specs
            .iter()
            .map(|spec| format!("{}={}", spec.name, spec.default))
            .collect();
        let help = match list.as_slice() {
            [] => format!("{owner} has no options"),
            list => format!(
                "{}the options are, with their defaults: {}",
                did_you_mean(name, specs.iter().map(|spec| spec.name)),
                list.join(", ")
            ),
        };
        self.error_at(at, what, help)
    }

    fn error(&mut self, what: impl ToString, help: impl ToString) -> Error {
        let at = self.skip_blanks(self.at);
        self.error_at(at, what, help)
    }

    fn error_at(&self, at: usize, what: impl ToString, help: impl ToString) -> Error {
        Error::Text {
            what: what.to_string(),
            text: self.text.to_string(),
            at,
            help: help.to_string(),
        }
    }
}

fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |near| format!("did you mean `{near}`?\n"))
}
