//! The archive's code: parsed files, a table of classes and functions by qualified name.

use indexmap::IndexMap;
use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{Expr, ModModule, Stmt, StmtClassDef, StmtFunctionDef};
use ruff_python_parser::{Mode, lexer};
use ruff_text_size::{Ranged, TextSize};
use rustc_hash::FxHashMap;

use crate::error::{FormatError, Location};
use crate::files::archive::Archive;

/// How deeply an expression may nest: far over what a compiler prints, far under what a stack holds.
const MAX_NESTING: usize = 2_000;

/// One parsed file.
pub(super) struct SourceFile {
    /// Path inside the archive.
    path: String,
    /// `__torch__.torch.nn.modules.conv`.
    module: String,
    text: String,
    syntax: ModModule,
}

impl SourceFile {
    /// The place of a piece of syntax.
    pub(super) fn at(&self, node: &impl Ranged) -> Location {
        self.locate(node.start())
    }

    fn locate(&self, offset: TextSize) -> Location {
        let before = &self.text.as_bytes()[..offset.to_usize().min(self.text.len())];
        self.line(1 + before.iter().filter(|&&b| b == b'\n').count())
    }

    fn line(&self, line: usize) -> Location {
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        let text = text.chars().take(160).collect();
        Location {
            file: self.path.clone(),
            line,
            text,
        }
    }

    /// The text of a piece of syntax.
    pub(super) fn text(&self, node: &impl Ranged) -> &str {
        self.text
            .get(node.start().to_usize()..node.end().to_usize())
            .unwrap_or_default()
    }
}

/// A function or a method, with the file it stands in.
#[derive(Clone, Copy)]
pub(super) struct Function<'a> {
    pub def: &'a StmtFunctionDef,
    pub file: &'a SourceFile,
}

/// A class of the archive's code.
pub(super) struct Class<'a> {
    pub file: &'a SourceFile,
    /// `Module`, `NamedTuple`, `Enum`, or nothing for a plain class.
    pub base: Option<&'a str>,
    /// Attributes and their declared types, in order.
    pub annotations: IndexMap<&'a str, &'a Expr>,
    /// Values that belong to the class: `Final` attributes.
    pub constants: FxHashMap<&'a str, &'a Expr>,
    pub parameters: Vec<&'a str>,
    pub buffers: Vec<&'a str>,
    pub methods: FxHashMap<&'a str, Function<'a>>,
}

/// All code of an archive.
#[derive(Default)]
pub(super) struct Program<'a> {
    pub classes: FxHashMap<String, Class<'a>>,
    pub functions: FxHashMap<String, Function<'a>>,
}

/// Parses every file under `code/`.
pub(super) fn parse_files(archive: &Archive) -> Result<Vec<SourceFile>, FormatError> {
    let mut files = Vec::new();
    for path in archive
        .names()
        .filter(|n| n.starts_with("code/") && n.ends_with(".py"))
    {
        let bytes = archive.read_text(path)?;
        let module = path["code/".len()..path.len() - ".py".len()].replace('/', ".");
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| damaged(format!("`{path}` is not UTF-8")))?;
        files.push(parse(path.to_owned(), module, text)?);
    }
    Ok(files)
}

fn damaged(detail: String) -> FormatError {
    FormatError::Damaged { detail }
}

fn parse(path: String, module: String, text: String) -> Result<SourceFile, FormatError> {
    let empty = ruff_python_parser::parse_module("").map(|parsed| parsed.into_syntax());
    let mut file = match empty {
        Ok(syntax) => SourceFile {
            path,
            module,
            text,
            syntax,
        },
        Err(_) => return Err(damaged(format!("`{path}` cannot be parsed"))),
    };
    let help = || "the code is not what PyTorch writes; save the model again".to_owned();
    if u32::try_from(file.text.len()).is_err() {
        return Err(damaged(format!("`{}` is over 4 GB", file.path)));
    }
    if let Some(line) = too_deep(&file.text) {
        let what = format!("an expression nests more than {MAX_NESTING} deep");
        return Err(FormatError::Code {
            what,
            at: file.line(line),
            help: help(),
        });
    }
    match ruff_python_parser::parse_module(&file.text) {
        Ok(parsed) => file.syntax = parsed.into_syntax(),
        Err(error) => {
            let at = file.locate(error.location.start());
            return Err(FormatError::Code {
                what: error.error.to_string(),
                at,
                help: help(),
            });
        }
    }
    Ok(file)
}

/// Where a file nests deeper than a stack can be trusted with: brackets and blocks, and chains such as `a.b.c` or
/// `a + b + c`, which are trees as deep as they are long. A comma starts a new chain.
fn too_deep(text: &str) -> Option<usize> {
    let mut lexer = lexer::lex(text, Mode::Module);
    let mut open: Vec<usize> = Vec::new();
    let (mut chain, mut blocks, mut total, mut line) = (0, 0usize, 0, 1);
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => return None,
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace => {
                open.push(chain + 1);
                total += chain + 1;
                chain = 0;
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace => {
                let before = open.pop().unwrap_or(0);
                total -= before;
                // A bracket closed is one more link: `f(a)(b)(c)`.
                chain = before;
            }
            TokenKind::Comma => chain = 0,
            TokenKind::Newline => {
                line += 1;
                chain = 0;
                if open.is_empty() {
                    total = 0;
                }
            }
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            TokenKind::Name | TokenKind::Int | TokenKind::Float | TokenKind::String => {}
            TokenKind::NonLogicalNewline => line += 1,
            TokenKind::Comment => {}
            _ => chain += 1,
        }
        if total + chain + blocks > MAX_NESTING {
            return Some(line);
        }
    }
}

impl<'a> Program<'a> {
    /// The classes and functions of all files.
    pub(super) fn new(files: &'a [SourceFile]) -> Self {
        let mut program = Program::default();
        for file in files {
            for statement in &file.syntax.body {
                match statement {
                    Stmt::ClassDef(def) => {
                        let name = format!("{}.{}", file.module, def.name);
                        program.classes.insert(name, Class::new(file, def));
                    }
                    Stmt::FunctionDef(def) => {
                        let name = format!("{}.{}", file.module, def.name);
                        program.functions.insert(name, Function { def, file });
                    }
                    _ => {}
                }
            }
        }
        program
    }
}

impl<'a> Class<'a> {
    fn new(file: &'a SourceFile, def: &'a StmtClassDef) -> Self {
        let base = def
            .arguments
            .as_deref()
            .and_then(|arguments| arguments.args.first())
            .and_then(name_of);
        let mut class = Class {
            file,
            base,
            annotations: IndexMap::new(),
            constants: FxHashMap::default(),
            parameters: Vec::new(),
            buffers: Vec::new(),
            methods: FxHashMap::default(),
        };
        for statement in &def.body {
            match statement {
                Stmt::FunctionDef(def) => {
                    let name = def.name.as_str();
                    class.methods.insert(name, Function { def, file });
                }
                // `weight : Tensor`, `eps : Final[float] = 1e-5`.
                Stmt::AnnAssign(assign) => {
                    if let Some(name) = name_of(&assign.target) {
                        class.annotations.insert(name, &assign.annotation);
                        if let Some(value) = &assign.value {
                            class.constants.insert(name, value);
                        }
                    }
                }
                Stmt::Assign(assign) => match assign.targets.as_slice() {
                    [Expr::Name(target)] if target.id == "__parameters__" => {
                        class.parameters = strings(&assign.value)
                    }
                    [Expr::Name(target)] if target.id == "__buffers__" => {
                        class.buffers = strings(&assign.value)
                    }
                    // `__annotations__["0"] = __torch__.Conv2d`: attributes whose names are no identifiers.
                    [Expr::Subscript(target)]
                        if name_of(&target.value) == Some("__annotations__") =>
                    {
                        if let Expr::StringLiteral(name) = &*target.slice {
                            class.annotations.insert(name.value.to_str(), &assign.value);
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        class
    }
}

fn name_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Name(name) => Some(name.id.as_str()),
        _ => None,
    }
}

fn strings(list: &Expr) -> Vec<&str> {
    let Expr::List(list) = list else {
        return Vec::new();
    };
    list.elts
        .iter()
        .filter_map(|item| match item {
            Expr::StringLiteral(text) => Some(text.value.to_str()),
            _ => None,
        })
        .collect()
}
