//! Arithmetic: numbers, + - * / % ^ and parentheses. Nothing else.

/// Brackets and signs may be nested so deep.
const DEPTH: u32 = 64;

/// The value of an expression.
pub(super) fn compute(text: &str) -> Result<f64, String> {
    if text.len() > 1000 {
        return Err("the expression has more than 1000 bytes".to_owned());
    }
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let value = parser.sum()?;
    if !parser.rest.is_empty() {
        return Err(format!("{:?} was not expected", parser.rest));
    }
    if value.is_finite() { Ok(value) } else { Err("the result is no number".to_owned()) }
}

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl Parser<'_> {
    fn take(&mut self, sign: char) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value += self.product()?;
            } else if self.take('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.power()?;
        loop {
            if self.take('*') {
                value *= self.power()?;
            } else if self.take('/') {
                let by = self.power()?;
                if by == 0.0 {
                    return Err("division by zero".to_owned());
                }
                value /= by;
            } else if self.take('%') {
                value %= self.power()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn power(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        let base = self.atom()?;
        let value = if self.take('^') { base.powf(self.power()?) } else { base };
        self.depth -= 1;
        Ok(value)
    }

    fn atom(&mut self) -> Result<f64, String> {
        if self.take('-') {
            return Ok(-self.power()?);
        }
        if self.take('(') {
            let value = self.sum()?;
            return if self.take(')') { Ok(value) } else { Err(") is missing".to_owned()) };
        }
        let end =
            self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        number.parse().map_err(|_none| format!("a number is expected, not {number:?}{rest:.20}"))
    }
}

#[cfg(test)]
mod tests {
    use super::compute;

    #[test]
    fn arithmetic_is_as_at_school() {
        for (text, value) in [
            ("1 + 2 * 3", 7.0),
            ("(1+2)*3", 9.0),
            ("2^3^2", 512.0),
            ("-2 + 7 % 4", 1.0),
            ("1.5/3", 0.5),
        ] {
            assert_eq!(compute(text), Ok(value), "{text}");
        }
        let deep = "(".repeat(900);
        for bad in ["", "1 +", "1/0", "x", "1 2", "(1", "9^9^9^9", &deep, "import os"] {
            assert!(compute(bad).is_err(), "{bad:.20}");
        }
    }
}
