//! The small part of Python that v1 conditions are written in, translated to CEL. Nothing of it is
//! run as Python.

use std::fmt::Write as _;

const DEPTH: usize = 32;

/// Whether a text that is valid CEL was meant as Python.
pub(super) fn is_meant(source: &str) -> bool {
    let tokens = tokens(source).unwrap_or_default();
    tokens.iter().any(|token| matches!(token, Token::Name("True" | "False" | "None")))
}

/// The same condition in CEL.
pub(super) fn to_cel(source: &str) -> Result<String, String> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0, renamed: Vec::new() };
    let text = parser.expression()?;
    match parser.peek() {
        None => Ok(text),
        Some(token) => Err(format!("{token:?} was not expected")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    /// With its quotes.
    Text(&'a str),
    Sign(&'a str),
}

const SIGNS: [&str; 22] = [
    "==", "!=", "<=", ">=", "//", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}",
    ",", ":", ".", "=",
];

fn tokens(source: &str) -> Result<Vec<Token<'_>>, String> {
    let mut all = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphabetic() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if first.is_ascii_digit() {
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())
        } else if first == '\'' || first == '"' {
            let inner = rest.get(1..).unwrap_or_default();
            let close = inner.find(first).ok_or("a text is not closed")?;
            if inner.get(..close).is_some_and(|text| text.contains('\\')) {
                return Err("texts with \\ are not supported".to_owned());
            }
            close + 2
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            sign.ok_or_else(|| format!("{first:?} was not expected"))?.len()
        };
        let (word, behind) = rest.split_at(length);
        all.push(match first {
            '\'' | '"' => Token::Text(word),
            _ if first.is_alphabetic() || first == '_' => Token::Name(word),
            _ if first.is_ascii_digit() => Token::Number(word),
            _ => Token::Sign(word),
        });
        rest = behind.trim_start();
    }
    Ok(all)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    /// Loop variables that stand for a part of an entry: `k` for `kv[0]`.
    renamed: Vec<(String, String)>,
}

type Cel = Result<String, String>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.take(Token::Sign(sign))
    }

    fn word(&mut self, word: &str) -> bool {
        self.take(Token::Name(word))
    }

    fn need(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(format!("{sign} is missing")) }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            other => Err(format!("a name is expected, not {other:?}")),
        }
    }

    fn expression(&mut self) -> Cel {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        let mut text = self.both()?;
        while self.word("or") {
            let right = self.both()?;
            text = format!("(truthy({text}) || truthy({right}))");
        }
        self.depth -= 1;
        Ok(text)
    }

    fn both(&mut self) -> Cel {
        let mut text = self.negation()?;
        while self.word("and") {
            let right = self.negation()?;
            text = format!("(truthy({text}) && truthy({right}))");
        }
        Ok(text)
    }

    fn negation(&mut self) -> Cel {
        if self.word("not") {
            return Ok(format!("!truthy({})", self.negation()?));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Cel {
        let left = self.sum()?;
        for sign in ["==", "!=", "<=", ">=", "<", ">"] {
            if self.sign(sign) {
                return Ok(format!("({left} {sign} {})", self.sum()?));
            }
        }
        if self.word("is") {
            let sign = if self.word("not") { "!=" } else { "==" };
            return Ok(format!("({left} {sign} {})", self.sum()?));
        }
        let negated = self.word("not");
        if self.word("in") {
            let inside = format!("({left} in {})", self.sum()?);
            return Ok(if negated { format!("!{inside}") } else { inside });
        }
        if negated { Err("not was not expected".to_owned()) } else { Ok(left) }
    }

    fn sum(&mut self) -> Cel {
        let mut text = self.product()?;
        loop {
            let sign = if self.sign("+") {
                "+"
            } else if self.sign("-") {
                "-"
            } else {
                return Ok(text);
            };
            text = format!("({text} {sign} {})", self.product()?);
        }
    }

    fn product(&mut self) -> Cel {
        let mut text = self.postfix()?;
        loop {
            let sign = if self.sign("*") {
                "*"
            } else if self.sign("//") || self.sign("/") {
                "/"
            } else if self.sign("%") {
                "%"
            } else {
                return Ok(text);
            };
            text = format!("({text} {sign} {})", self.postfix()?);
        }
    }

    fn postfix(&mut self) -> Cel {
        let mut text = self.atom()?;
        loop {
            if self.sign(".") {
                let name = self.name()?;
                if self.sign("(") {
                    text = self.method(&text, name)?;
                } else {
                    let _ = write!(text, ".{name}");
                }
            } else if self.sign("[") {
                let index = self.expression()?;
                self.need("]")?;
                let from_end = index.strip_prefix('-').filter(|rest| rest.parse::<u32>().is_ok());
                text = match from_end {
                    Some(back) => format!("{text}[size({text}) - {back}]"),
                    None => format!("{text}[{index}]"),
                };
            } else {
                return Ok(text);
            }
        }
    }

    fn method(&mut self, of: &str, name: &str) -> Cel {
        let args = self.arguments()?;
        let all = args.join(", ");
        Ok(match name {
            "get" => format!("{of}.get({all})"),
            "startswith" => format!("{of}.startsWith({all})"),
            "endswith" => format!("{of}.endsWith({all})"),
            "items" => format!("{of}.entries()"),
            "values" => format!("{of}.entries().map(entry, entry[1])"),
            "keys" => format!("{of}.entries().map(entry, entry[0])"),
            _ => return Err(format!("there is no method {name} here")),
        })
    }

    fn arguments(&mut self) -> Result<Vec<String>, String> {
        let mut args = Vec::new();
        while !self.sign(")") {
            args.push(self.expression()?);
            if !self.sign(",") {
                self.need(")")?;
                break;
            }
        }
        Ok(args)
    }

    fn atom(&mut self) -> Cel {
        let token = self.peek().ok_or("it ends too early")?;
        self.at += 1;
        match token {
            Token::Number(number) => Ok(number.to_owned()),
            Token::Text(text) => Ok(text.to_owned()),
            Token::Sign("-") => Ok(format!("-{}", self.postfix()?)),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.need(")")?;
                Ok(format!("({inner})"))
            }
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.map(),
            Token::Name("True") => Ok("true".to_owned()),
            Token::Name("False") => Ok("false".to_owned()),
            Token::Name("None") => Ok("null".to_owned()),
            Token::Name(name) if self.sign("(") => self.call(name),
            Token::Name(name) => {
                let renamed = self.renamed.iter().rev().find(|(from, _)| from == name);
                Ok(renamed.map_or_else(|| name.to_owned(), |(_, to)| to.clone()))
            }
            other @ Token::Sign(_) => Err(format!("{other:?} was not expected")),
        }
    }

    fn call(&mut self, name: &str) -> Cel {
        match name {
            "len" => Ok(format!("size({})", self.arguments()?.join(", "))),
            "str" => Ok(format!("string({})", self.arguments()?.join(", "))),
            "int" => Ok(format!("int({})", self.arguments()?.join(", "))),
            "bool" => Ok(format!("truthy({})", self.arguments()?.join(", "))),
            "hasattr" | "getattr" => {
                let args = self.arguments()?;
                match (name, args.as_slice()) {
                    ("hasattr", [of, member]) => Ok(format!("({member} in {of})")),
                    ("getattr", [of, member, rest @ ..]) => {
                        let fallback = rest.first().map_or("null", String::as_str);
                        Ok(format!("{of}.get({member}, {fallback})"))
                    }
                    _ => Err(format!("{name} needs two arguments")),
                }
            }
            "all" | "any" => {
                let list = self.looped(")")?;
                let test = if name == "all" { "all" } else { "exists" };
                Ok(format!("{list}.{test}(each, truthy(each))"))
            }
            _ => Err(format!("there is no function {name} here")),
        }
    }

    /// `e for x in list if c`, up to the closing sign, as a list.
    fn looped(&mut self, close: &str) -> Cel {
        let body = self.at;
        let first = self.expression()?;
        if !self.word("for") {
            self.need(close)?;
            return Ok(first);
        }
        let mut names = vec![self.name()?];
        while self.sign(",") {
            names.push(self.name()?);
        }
        if !self.word("in") {
            return Err("in is missing".to_owned());
        }
        let list = self.sum()?;
        let known = self.renamed.len();
        let variable = if let [single] = names.as_slice() {
            (*single).to_owned()
        } else {
            let entry = format!("entry{known}");
            for (at, name) in names.iter().enumerate() {
                self.renamed.push(((*name).to_owned(), format!("{entry}[{at}]")));
            }
            entry
        };
        let filter = if self.word("if") { Some(self.both()?) } else { None };
        self.need(close)?;
        let end = self.at;
        // The body stands before its variables: it is read again now that they are known.
        self.at = body;
        let mapped = self.expression()?;
        self.at = end;
        self.renamed.truncate(known);
        let filtered = filter
            .map_or_else(String::new, |filter| format!(".filter({variable}, truthy({filter}))"));
        Ok(format!("{list}{filtered}.map({variable}, {mapped})"))
    }

    fn list(&mut self) -> Cel {
        if self.sign("]") {
            return Ok("[]".to_owned());
        }
        let start = self.at;
        let first = self.expression()?;
        if self.peek() == Some(Token::Name("for")) {
            self.at = start;
            return self.looped("]");
        }
        let mut items = vec![first];
        while self.sign(",") {
            if self.peek() != Some(Token::Sign("]")) {
                items.push(self.expression()?);
            }
        }
        self.need("]")?;
        Ok(format!("[{}]", items.join(", ")))
    }

    fn map(&mut self) -> Cel {
        let mut members = Vec::new();
        while !self.sign("}") {
            let key = self.expression()?;
            self.need(":")?;
            members.push(format!("{key}: {}", self.expression()?));
            if !self.sign(",") {
                self.need("}")?;
                break;
            }
        }
        Ok(format!("{{{}}}", members.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Expr;
    use serde_json::{Value, json};

    fn holds(python: &str, state: &Value) -> Result<bool, String> {
        let Value::Object(fields) = state else { panic!() };
        Expr::compile(&to_cel(python)?)?.holds(&[fields])
    }

    #[test]
    fn the_conditions_of_v1_mean_the_same() {
        let state = json!({"plan": ["a", "b"], "current_step_index": 2, "x": "approved", "note": "",
            "agent_tasks": {"researcher": {"completed": true}, "writer": {"completed": false}}});
        for (python, expected) in [
            ("len(state.plan) > 0 and state.current_step_index >= len(state.plan)", true),
            ("hasattr(state, 'x') and state.x == 'approved'", true),
            ("hasattr(state, 'y') and state.y == 'approved'", false),
            ("state.agent_tasks.get('researcher', {}).get('completed')", true),
            ("not state.agent_tasks.get('nobody', {}).get('completed')", true),
            ("all(task.get('completed') for name, task in state.agent_tasks.items())", false),
            ("len([n for n, t in state.agent_tasks.items() if t.get('completed')]) == 1", true),
            ("any([t['completed'] for t in state.agent_tasks.values()])", true),
            ("state.note or state.plan[-1] == 'b'", true),
            ("'a' in state.plan and 'z' not in state.plan", true),
            ("state.get('missing') is None", true),
            ("(state.current_step_index + 1) * 2 == 6 and True", true),
            ("state['x'].startswith('app')", true),
        ] {
            assert_eq!(holds(python, &state), Ok(expected), "{python}: {:?}", to_cel(python));
        }
    }

    #[test]
    fn what_could_run_code_is_refused() {
        for python in [
            "__import__('os').system('x')",
            "().__class__.__bases__[0].__subclasses__()",
            "eval('1')",
            "lambda: 1",
            "[x for x in (1).__class__.__mro__()]",
            "open('/etc/passwd').read()",
            "'a' if 1 else 'b'",
            "x := 1",
            &"(".repeat(10_000),
        ] {
            let compiled = to_cel(python).and_then(|cel| Expr::compile(&cel).map(drop));
            assert!(compiled.is_err(), "{python:.60}");
        }
    }
}
