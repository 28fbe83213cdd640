//! What is known of one file's content: the same wherever the content lies, so it is kept by content.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::language::Language;

/// Raised whenever the same content would give other facts, so that facts kept before are not taken.
pub const VERSION: u8 = 2;
/// Most symbols kept of a file; more are counted in [`Facts::dropped`].
pub const MAX_SYMBOLS: usize = 20_000;
/// Most imports kept of a file; more are counted in [`Facts::dropped`].
pub const MAX_IMPORTS: usize = 5_000;
/// Most bytes of all names and parents of a file's symbols, and of all its imports; more are counted in
/// [`Facts::dropped`].
pub const MAX_TEXT: usize = 512 << 10;
/// Most bytes of a name or an import; the rest is cut.
pub const MAX_NAME: usize = 256;

/// Under what facts are kept: version, language and the content's hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// The key of content with this hash (20 to 32 bytes), read as `language`. Hashes of different lengths never
    /// give the same key.
    pub fn new(language: Language, hash: &[u8]) -> Self {
        let mut key = Vec::with_capacity(2 + hash.len());
        key.extend([VERSION, language as u8]);
        key.extend(hash);
        Self(key.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a symbol is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A function that belongs to no type.
    Function,
    /// A function that belongs to a type.
    Method,
    /// A struct, record or union.
    Struct,
    /// An enumeration.
    Enum,
    /// A class.
    Class,
    /// A trait, an interface or an annotation type.
    Interface,
    /// A name for a type.
    Alias,
    /// A constant or a static.
    Constant,
    /// A macro.
    Macro,
    /// A module or a namespace.
    Module,
}

impl Kind {
    /// Its name, as it is kept and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Method => "method",
            Self::Struct => "struct",
            Self::Enum => "enum",
            Self::Class => "class",
            Self::Interface => "interface",
            Self::Alias => "alias",
            Self::Constant => "constant",
            Self::Macro => "macro",
            Self::Module => "module",
        }
    }
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol<T = String> {
    /// Its name.
    pub name: T,
    /// What it is.
    pub kind: Kind,
    /// Its first line; lines count from 1.
    pub start: u32,
    /// Its last line.
    pub end: u32,
    /// The names it stands in, outermost first, joined by `.`; empty at the top of a file.
    pub parent: T,
    /// Cyclomatic complexity of a function, at least 1; 0 for what has no body.
    pub complexity: u32,
}

/// How an import is written, and so how it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// A path of names (Rust `use`, Python, Java), or a string (JavaScript, Go).
    Path,
    /// A child module in a file of its own: Rust `mod name;`.
    Child,
    /// A name taken from a module, which may be a module itself (Python `from a import b`: `a.b`), or a member (Java
    /// `import static`).
    Member,
    /// Everything in it: a star import.
    Star,
    /// C: `#include <...>`.
    System,
}

/// An import as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import<T = String> {
    /// What is imported, in the language's own spelling, e.g. `crate::a::B`, `..pkg.mod`, `./x.js`, `stdio.h`.
    pub path: T,
    /// How it is written.
    pub form: Form,
    /// Its line.
    pub line: u32,
}

impl<T: AsRef<str>> Import<T> {
    pub(crate) fn borrowed(&self) -> Import<&str> {
        Import {
            path: self.path.as_ref(),
            form: self.form,
            line: self.line,
        }
    }
}

/// What is known of one file's content. Its texts may be those of the bytes it was [decoded](Facts::decode) from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts<T = String> {
    /// Bytes.
    pub bytes: u64,
    /// Lines, counting a last one without a line feed.
    pub lines: u32,
    /// Lines that hold more than white space and comments.
    pub code_lines: u32,
    /// Cyclomatic complexity: that of the functions together, and of what branches outside of them.
    pub complexity: u32,
    /// Places that the grammar did not understand. In Rust and Go not those where none of these facts can be: in brackets of
    /// functions' bodies that neither branch nor name anything, and in what macros are given.
    pub errors: u32,
    /// Symbols and imports over the bounds.
    pub dropped: u32,
    /// Imports, in the order of the file.
    pub imports: Vec<Import<T>>,
    /// Symbols, in the order of the file.
    pub symbols: Vec<Symbol<T>>,
}

impl Facts {
    /// Compact bytes (msgpack).
    ///
    /// # Errors
    /// Never with these types; the encoder's error otherwise.
    pub fn encode(&self) -> Result<Bytes, rmp_serde::encode::Error> {
        rmp_serde::to_vec(self).map(Bytes::from)
    }
}

impl<'a, T: Deserialize<'a>> Facts<T> {
    /// What [`Facts::encode`] made.
    ///
    /// # Errors
    /// Bytes that are not facts of this version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

/// What no facts begin with.
const COSTLY: u8 = 0;

/// What is kept instead of facts, of content that takes more than `memory` bytes to be read.
pub fn too_costly(memory: u64) -> Bytes {
    let mut mark = vec![COSTLY];
    mark.extend(memory.to_be_bytes());
    mark.into()
}

/// How much memory the content is known to take more than, if that is what is kept of it.
pub fn costs_more_than(kept: &[u8]) -> Option<u64> {
    let memory = kept.strip_prefix(&[COSTLY])?;
    memory.try_into().ok().map(u64::from_be_bytes)
}

/// `text` cut to [`MAX_NAME`] bytes at a character's end.
pub(crate) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME)]
}
