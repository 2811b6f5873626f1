//! The text of a filter: words, operators and their order, and errors that point at a place.

use std::fmt;

use super::expression::Expression;
use crate::error::{Error, ErrorKind};

/// How deep parentheses and `not` may be nested.
const MAX_DEPTH: usize = 64;

/// Why a text is not a filter: where, what was found there, and what was expected.
///
/// [`Display`](fmt::Display) shows the text with a caret below the place.
///
/// ```
/// use nlring::conntrack::Filter;
///
/// let error = "proto tcp and dport http".parse::<Filter>().unwrap_err();
/// assert_eq!((error.position(), error.found()), (20, "http"));
/// assert_eq!(
///     error.to_string(),
///     "expected a number from 0 to 65535, or a range such as 10-20, or several as {a, b}, found `http`\n\
///      \x20 proto tcp and dport http\n\
///      \x20                     ^"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    position: usize,
    found: String,
    expected: String,
}

impl ParseError {
    /// The offset of the place in the text, in bytes. At the end of the text it is the text's length.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The word or symbol at that place. Empty at the end of the text.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What would have been valid there, as a phrase such as `"a state of TCP, SCTP or DCCP such as ESTABLISHED"`.
    pub fn expected(&self) -> &str {
        &self.expected
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found ", self.expected)?;
        if self.found.is_empty() {
            f.write_str("the end")?;
        } else {
            write!(f, "`{}`", self.found.escape_debug())?;
        }
        let is_plain = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = self.text.chars().map(is_plain).collect();
        let before = self.text.get(..self.position).unwrap_or(&self.text);
        let column = before.chars().count();
        write!(f, "\n  {shown}\n  {:column$}^", "")
    }
}

impl std::error::Error for ParseError {}

/// An error of kind [`ErrorKind::InvalidInput`] with the same text.
impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::explained("read a filter", ErrorKind::InvalidInput, error.to_string())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Word,
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    Not,
    And,
    Or,
    End,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    symbol: Symbol,
    position: usize,
    text: &'a str,
}

/// The rest of a text, word by word. A family's terms are parsed from it.
pub struct Words<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    /// The numbers of names that only the caller knows, by the word of the term.
    names: &'a dyn Fn(&str, &str) -> Option<u32>,
    depth: usize,
}

type Parsed<T> = std::result::Result<T, ParseError>;

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str, names: &'a dyn Fn(&str, &str) -> Option<u32>) -> Self {
        Self {
            text,
            tokens: tokens(text),
            next: 0,
            names,
            depth: 0,
        }
    }

    /// The next word, unless it is an operator.
    pub fn peek(&self) -> Option<&'a str> {
        let token = self.token();
        (token.symbol == Symbol::Word).then_some(token.text)
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        self.next += usize::from(is_next);
        is_next
    }

    /// Skips the next word.
    pub fn skip(&mut self) {
        self.next += 1;
    }

    /// The function that finds the number of a name that only the caller knows, by the word of its term and the name.
    pub fn names(&self) -> &'a dyn Fn(&str, &str) -> Option<u32> {
        self.names
    }

    /// Takes the next word as a value, which `read` parses. If it cannot, the error says what was expected.
    pub fn value<V>(
        &mut self,
        expected: &str,
        read: impl FnOnce(&'a str) -> Option<V>,
    ) -> Parsed<V> {
        let value = self.peek().and_then(read);
        let value = value.ok_or_else(|| self.error(expected))?;
        self.next += 1;
        Ok(value)
    }

    /// Takes one value, or several as `{a, b, c}`.
    pub fn values<V>(
        &mut self,
        expected: &str,
        read: impl Fn(&'a str) -> Option<V>,
    ) -> Parsed<Vec<V>> {
        if !self.take_symbol(Symbol::OpenSet) {
            let expected = format!("{expected}, or several as {{a, b}}");
            return Ok(vec![self.value(&expected, read)?]);
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value(expected, &read)?);
            if self.take_symbol(Symbol::CloseSet) {
                return Ok(values);
            }
            if !self.take_symbol(Symbol::Comma) {
                return Err(self.error("`,` or `}`"));
            }
        }
    }

    /// The error that something else was expected at the next word.
    pub fn error(&self, expected: &str) -> ParseError {
        let token = self.token();
        ParseError {
            text: self.text.into(),
            position: token.position,
            found: token.text.into(),
            expected: expected.into(),
        }
    }

    fn token(&self) -> Token<'a> {
        self.tokens.get(self.next).copied().unwrap_or(Token {
            symbol: Symbol::End,
            position: self.text.len(),
            text: "",
        })
    }

    fn take_symbol(&mut self, symbol: Symbol) -> bool {
        let is_next = self.token().symbol == symbol;
        self.next += usize::from(is_next);
        is_next
    }

    /// Reads the whole text as an expression of the terms that `term` reads.
    pub(super) fn parse<T>(
        mut self,
        term: &impl Fn(&mut Self) -> Parsed<Expression<T>>,
    ) -> Parsed<Expression<T>> {
        let expression = self.disjunction(term)?;
        match self.token().symbol {
            Symbol::End => Ok(expression),
            _ => Err(self.error("`and`, `or` or the end")),
        }
    }

    fn disjunction<T>(
        &mut self,
        term: &impl Fn(&mut Self) -> Parsed<Expression<T>>,
    ) -> Parsed<Expression<T>> {
        let mut expression = self.conjunction(term)?;
        while self.take_symbol(Symbol::Or) {
            expression = expression.or(self.conjunction(term)?);
        }
        Ok(expression)
    }

    fn conjunction<T>(
        &mut self,
        term: &impl Fn(&mut Self) -> Parsed<Expression<T>>,
    ) -> Parsed<Expression<T>> {
        let mut expression = self.factor(term)?;
        while self.take_symbol(Symbol::And) {
            expression = expression.and(self.factor(term)?);
        }
        Ok(expression)
    }

    fn factor<T>(
        &mut self,
        term: &impl Fn(&mut Self) -> Parsed<Expression<T>>,
    ) -> Parsed<Expression<T>> {
        if self.depth > MAX_DEPTH {
            return Err(self.error("at most 64 levels of parentheses and `not`"));
        }
        self.depth += 1;
        let expression = if self.take_symbol(Symbol::Not) {
            self.factor(term)?.negated()
        } else if self.take_symbol(Symbol::Open) {
            let expression = self.disjunction(term)?;
            if !self.take_symbol(Symbol::Close) {
                return Err(self.error("`and`, `or` or `)`"));
            }
            expression
        } else if self.take("all") {
            Expression::ALWAYS
        } else {
            term(self)?
        };
        self.depth -= 1;
        Ok(expression)
    }
}

/// A number in decimal, or with `0x` in hexadecimal.
pub fn number(word: &str) -> Option<u32> {
    let (digits, radix) = match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    let starts_with_digit = digits.starts_with(|c: char| c.is_digit(radix)); // no sign
    u32::from_str_radix(digits, radix)
        .ok()
        .filter(|_| starts_with_digit)
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut position = 0;
    while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
        let trimmed = rest.trim_start();
        position = text.len() - trimmed.len();
        let Some((symbol, length)) = first_symbol(trimmed) else {
            break;
        };
        let (text, _) = trimmed.split_at(length);
        tokens.push(Token {
            symbol,
            position,
            text,
        });
        position += length;
    }
    tokens
}

/// The symbol at the start of a text without leading spaces, and its length in bytes. None for an empty text.
fn first_symbol(text: &str) -> Option<(Symbol, usize)> {
    const SYMBOLS: [(&str, Symbol); 8] = [
        ("(", Symbol::Open),
        (")", Symbol::Close),
        ("{", Symbol::OpenSet),
        ("}", Symbol::CloseSet),
        (",", Symbol::Comma),
        ("!", Symbol::Not),
        ("&&", Symbol::And),
        ("||", Symbol::Or),
    ];
    let find = |text: &str| {
        let mut symbols = SYMBOLS.iter();
        symbols
            .find(|(symbol, _)| text.starts_with(symbol))
            .copied()
    };
    if text.is_empty() {
        return None;
    }
    if let Some((text, symbol)) = find(text) {
        return Some((symbol, text.len()));
    }
    let is_end = |(index, c): (usize, char)| {
        let rest = text.get(index..).unwrap_or_default();
        (c.is_whitespace() || find(rest).is_some()).then_some(index)
    };
    let length = text.char_indices().find_map(is_end).unwrap_or(text.len());
    let symbol = match text.get(..length) {
        Some("and") => Symbol::And,
        Some("or") => Symbol::Or,
        Some("not") => Symbol::Not,
        _ => Symbol::Word,
    };
    Some((symbol, length))
}

/// Writes an expression so that it can be parsed again, with parentheses only where they are needed.
pub(super) fn write<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    expression: &Expression<T>,
) -> fmt::Result {
    match expression {
        Expression::Term(term) => fmt::Display::fmt(term, f),
        Expression::Not(part) => {
            f.write_str("not ")?;
            write_inside(
                f,
                part,
                matches!(**part, Expression::And(_) | Expression::Or(_)),
            )
        }
        Expression::And(parts) if parts.is_empty() => f.write_str("all"),
        Expression::Or(parts) if parts.is_empty() => f.write_str("not all"),
        Expression::And(parts) => write_list(f, parts, " and ", true),
        Expression::Or(parts) => write_list(f, parts, " or ", false),
    }
}

fn write_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression<T>],
    operator: &str,
    or_is_inside: bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        write_inside(f, part, or_is_inside && matches!(part, Expression::Or(_)))?;
    }
    Ok(())
}

fn write_inside<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    part: &Expression<T>,
    needs_parentheses: bool,
) -> fmt::Result {
    let is_constant = part.is_always() || part.is_never();
    if needs_parentheses && !is_constant {
        f.write_str("(")?;
        write(f, part)?;
        f.write_str(")")
    } else {
        write(f, part)
    }
}
