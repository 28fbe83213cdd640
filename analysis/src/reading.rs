//! One file's source to its facts, within a time.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tree_sitter::{Node, ParseOptions, Parser, Tree};

use crate::facts::{Facts, Kind, MAX_SYMBOLS, MAX_TEXT, Symbol};
use crate::language::{Grammar, Imports, Language, Meaning, Source, line};
use crate::words::Marks;

/// Longest chain of parents that is kept, in bytes: a parent is repeated in each of its symbols.
const MAX_PARENT: usize = 512;
/// Deepest module that imports are written from.
const MAX_MODULES: usize = 64;
/// Nodes between two looks at the clock.
const STRIDE: u32 = 4096;

/// Why there are no facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It took longer than it may.
    TimedOut,
    /// It took more memory than it may. Told by a parser of its own process only.
    TooCostly,
    /// Nobody wants it any more.
    Cancelled,
    /// The grammar cannot be used, or the process that parsed has failed.
    Failed,
}

/// Reads one file after the other.
pub struct Reader {
    parser: Parser,
    language: Option<Language>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            parser: Parser::new(),
            language: None,
        }
    }
}

struct Until<'a> {
    deadline: Instant,
    cancel: &'a CancellationToken,
}

impl Until<'_> {
    fn check(&self) -> Result<(), Unread> {
        if self.cancel.is_cancelled() {
            Err(Unread::Cancelled)
        } else if Instant::now() >= self.deadline {
            Err(Unread::TimedOut)
        } else {
            Ok(())
        }
    }
}

impl Reader {
    /// The facts of `source`. Takes about `patience` at most, whatever the source is.
    ///
    /// # Errors
    /// See [`Unread`]; the reader can be used again.
    pub fn read(
        &mut self,
        language: Language,
        source: &[u8],
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Result<Facts, Unread> {
        let until = Until {
            deadline: Instant::now() + patience,
            cancel,
        };
        let grammar = language.grammar();
        let elided = grammar
            .rules
            .elide
            .and_then(|elide| elide(source, &grammar.words));
        let mut source = Source {
            whole: source,
            left: elided.as_ref(),
        };
        let mut tree = self.parse(language, grammar, source.parsed(), &until)?;
        if elided.is_some() && tree.root_node().has_error() {
            // Errors are told as they are in the whole of it.
            drop(tree);
            source.left = None;
            tree = self.parse(language, grammar, source.whole, &until)?;
        }
        let mut walk = Walk::new(grammar, source, tree.root_node().has_error());
        walk.run(&tree, &until)?;
        Ok(walk.facts(elided.as_ref().map(|elided| elided.comments.as_slice())))
    }

    fn parse(
        &mut self,
        language: Language,
        grammar: &Grammar,
        source: &[u8],
        until: &Until<'_>,
    ) -> Result<Tree, Unread> {
        if self.language != Some(language) {
            self.parser
                .set_language(&grammar.language)
                .map_err(|_| Unread::Failed)?;
            self.language = Some(language);
        }
        let mut stopped = Ok(());
        let mut progress = |_: &tree_sitter::ParseState| {
            stopped = until.check();
            match stopped {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let tree = self.parser.parse_with_options(
            &mut |offset, _| source.get(offset..).unwrap_or_default(),
            None,
            Some(ParseOptions::new().progress_callback(&mut progress)),
        );
        match tree {
            Some(tree) => Ok(tree),
            None => {
                // Otherwise the next parse would go on where this one stopped.
                self.parser.reset();
                Err(stopped.err().unwrap_or(Unread::Failed))
            }
        }
    }
}

/// What a node is to what stands in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Type,
    Module,
    Other,
}

/// A node that others stand in.
struct Open {
    depth: u32,
    /// Whether functions in it are methods.
    is_type: bool,
    /// Length of the path of names around it.
    outer: usize,
    /// Whether it is a module that the imports know of.
    is_module: bool,
    /// The function in which branches are counted, by symbol.
    function: Option<usize>,
}

struct Walk<'a> {
    grammar: &'a Grammar,
    source: Source<'a>,
    erroneous: bool,
    marks: Marks,
    open: Vec<Open>,
    path: String,
    symbols: Vec<Symbol>,
    /// Bytes of the symbols' names and parents.
    text: usize,
    imports: Imports,
    comments: Vec<(usize, usize)>,
    outside: u32,
    errors: u32,
}

impl<'a> Walk<'a> {
    fn new(grammar: &'a Grammar, source: Source<'a>, erroneous: bool) -> Self {
        Self {
            grammar,
            marks: Marks::new(&grammar.words, source.parsed()),
            source,
            erroneous,
            open: Vec::new(),
            path: String::new(),
            symbols: Vec::new(),
            text: 0,
            imports: Imports::default(),
            comments: Vec::new(),
            outside: 0,
            errors: 0,
        }
    }

    fn run(&mut self, tree: &Tree, until: &Until<'_>) -> Result<(), Unread> {
        let mut cursor = tree.walk();
        let (mut depth, mut left) = (0_u32, STRIDE);
        loop {
            left -= 1;
            if left == 0 {
                until.check()?;
                left = STRIDE;
            }
            let node = cursor.node();
            if self.enter(node, depth) && self.holds(node) && cursor.goto_first_child() {
                depth += 1;
                continue;
            }
            loop {
                self.leave(depth);
                if cursor.goto_next_sibling() {
                    break;
                }
                if !cursor.goto_parent() {
                    return Ok(());
                }
                depth -= 1;
            }
        }
    }

    /// Whether anything in a node may mean something.
    fn holds(&mut self, node: Node<'_>) -> bool {
        // Most have no children, which the node knows at less cost than the cursor.
        node.child_count() > 0
            && (self.marks.within(node.start_byte(), node.end_byte())
                || self.erroneous && node.has_error()
                || self.meaning(node) == Meaning::Open)
    }

    fn meaning(&self, node: Node<'_>) -> Meaning {
        let kind = usize::from(node.kind_id());
        let meanings = &self.grammar.meanings;
        meanings.get(kind).copied().unwrap_or(Meaning::Nothing)
    }

    /// Notes what a node means; whether its children are to be looked at.
    fn enter(&mut self, node: Node<'_>, depth: u32) -> bool {
        if self.erroneous && (node.is_error() || node.is_missing()) {
            self.errors = self.errors.saturating_add(1);
        }
        let mut meaning = self.meaning(node);
        if meaning == Meaning::Ask {
            meaning = (self.grammar.rules.ask)(node, &self.source, &self.grammar.fields);
        }
        match meaning {
            Meaning::Nothing | Meaning::Open | Meaning::Ask => true,
            // Only to count what was not understood.
            Meaning::Skip => self.erroneous && node.has_error(),
            Meaning::Comment => {
                self.comments.push((node.start_byte(), node.end_byte()));
                false
            }
            Meaning::Import => {
                (self.grammar.rules.imports)(node, &self.source, &mut self.imports);
                // A call that imports may have others in it.
                self.grammar.fields.arguments.of(node).is_some()
            }
            Meaning::Branch => {
                let count = self.counter();
                *count = count.saturating_add(1);
                true
            }
            Meaning::Choice => {
                let count = self.counter();
                *count = count.saturating_sub(1);
                true
            }
            Meaning::Operator => {
                let operator = self
                    .grammar
                    .fields
                    .operator
                    .of(node)
                    .map(|operator| operator.kind());
                if matches!(operator, Some("&&" | "||" | "??")) {
                    let count = self.counter();
                    *count = count.saturating_add(1);
                }
                true
            }
            Meaning::Scope => {
                if let Some(name) = (self.grammar.rules.name)(node, &self.source) {
                    self.push(depth, &name, Role::Type, None);
                }
                true
            }
            Meaning::Symbol(kind) => {
                self.symbol(node, kind, depth);
                true
            }
        }
    }

    fn symbol(&mut self, node: Node<'_>, kind: Kind, depth: u32) {
        let Some(name) = (self.grammar.rules.name)(node, &self.source) else {
            return;
        };
        let in_type = self.open.last().is_some_and(|open| open.is_type);
        let kind = match kind {
            Kind::Function if in_type => Kind::Method,
            kind => kind,
        };
        let function = matches!(kind, Kind::Function | Kind::Method);
        let runs = function
            && (self.grammar.fields.body.of(node).is_some() || self.grammar.fields.value.of(node).is_some());
        let mut counts_in = self.open.last().and_then(|open| open.function);
        self.text = self.text.saturating_add(name.len() + self.path.len());
        if self.symbols.len() < MAX_SYMBOLS && self.text <= MAX_TEXT {
            let owner = (self.grammar.rules.owner)(node, &self.source);
            self.symbols.push(Symbol {
                name: name.clone(),
                kind,
                start: line(node.start_position().row),
                end: line(node.end_position().row),
                parent: owner.unwrap_or_else(|| self.path.clone()),
                complexity: u32::from(runs),
            });
            if runs {
                counts_in = Some(self.symbols.len() - 1);
            }
        } else {
            self.imports.dropped = self.imports.dropped.saturating_add(1);
            if runs {
                // Counted with the file, as its symbol is not kept.
                counts_in = None;
                self.outside = self.outside.saturating_add(1);
            }
        }
        let role = match kind {
            Kind::Struct | Kind::Enum | Kind::Class | Kind::Interface => Role::Type,
            Kind::Module => Role::Module,
            _ => Role::Other,
        };
        self.push(depth, &name, role, counts_in);
    }

    fn push(&mut self, depth: u32, name: &str, role: Role, function: Option<usize>) {
        let outer = self.path.len();
        if outer + name.len() < MAX_PARENT {
            if outer > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
        }
        let is_module = role == Role::Module && self.imports.modules.len() < MAX_MODULES;
        if is_module {
            self.imports.modules.push(name.to_owned());
        }
        self.open.push(Open {
            depth,
            is_type: role == Role::Type,
            is_module,
            outer,
            function,
        });
    }

    fn leave(&mut self, depth: u32) {
        if let Some(open) = self.open.pop_if(|open| open.depth == depth) {
            self.path.truncate(open.outer);
            if open.is_module {
                self.imports.modules.pop();
            }
        }
    }

    /// Where a branch found here is counted.
    fn counter(&mut self) -> &mut u32 {
        let function = self.open.last().and_then(|open| open.function);
        match function {
            Some(symbol) => &mut self.symbols[symbol].complexity,
            None => &mut self.outside,
        }
    }

    /// `comments`: where they are in the source, if that is known without the tree.
    fn facts(self, comments: Option<&[(usize, usize)]>) -> Facts {
        let source = self.source.whole;
        let functions: u32 = self
            .symbols
            .iter()
            .fold(0, |sum, symbol| sum.saturating_add(symbol.complexity));
        let (lines, code_lines) = count_lines(source, comments.unwrap_or(&self.comments));
        Facts {
            bytes: source.len() as u64,
            lines,
            code_lines,
            complexity: functions.saturating_add(self.outside),
            errors: self.errors,
            dropped: self.imports.dropped,
            imports: self.imports.list,
            symbols: self.symbols,
        }
    }
}

/// Lines, and those that hold more than white space and comments. `comments` are byte ranges in order.
fn count_lines(source: &[u8], comments: &[(usize, usize)]) -> (u32, u32) {
    let (mut lines, mut code, mut at, mut next) = (0_u32, 0_u32, 0, 0);
    for text in source.split_inclusive(|byte| *byte == b'\n') {
        lines = lines.saturating_add(1);
        let end = at + text.len();
        let mut found = false;
        while at < end && !found {
            while comments.get(next).is_some_and(|comment| comment.1 <= at) {
                next += 1;
            }
            match comments.get(next) {
                Some(&(start, stop)) if start <= at => at = stop.min(end),
                comment => {
                    let until = comment.map_or(end, |comment| comment.0.min(end));
                    found = source[at..until].iter().any(|byte| !byte.is_ascii_whitespace());
                    at = until;
                }
            }
        }
        code = code.saturating_add(u32::from(found));
        at = end;
    }
    (lines, code)
}
