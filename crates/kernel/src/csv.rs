//! Lines of CSV files.

/// A line as RFC 4180 has it, its end included. Text that a spreadsheet would take for a formula
/// gets an apostrophe in front; numbers stay numbers, also those below zero.
pub fn csv_line<I>(cells: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let mut line = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        push(&mut line, cell.as_ref());
    }
    line.push_str("\r\n");
    line
}

fn push(line: &mut String, cell: &str) {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number(cell);
    let defused = if formula { "'" } else { "" };
    if cell.contains([',', '"', '\n', '\r']) {
        line.extend(["\"", defused, &cell.replace('"', "\"\""), "\""]);
    } else {
        line.extend([defused, cell]);
    }
}

/// Whether it is a plain decimal, such as `-0.5`.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    are_digits(whole) && are_digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_formulas_are_text() {
        let cells = ["a", "b,c", "say \"x\"", "=1+1", "-", "", "@SUM(A1,A2)", "two\nlines"];
        let expected = "a,\"b,c\",\"say \"\"x\"\"\",'=1+1,'-,,\"'@SUM(A1,A2)\",\"two\nlines\"\r\n";
        assert_eq!(csv_line(cells), expected);
    }

    #[test]
    fn numbers_are_not_formulas_and_what_only_begins_like_one_is() {
        assert_eq!(csv_line(["-0.5", "12", "-3"]), "-0.5,12,-3\r\n");
        assert_eq!(
            csv_line(["-1+1", "-.5", "+4", "-1.2.3", "-1e5"]),
            "'-1+1,'-.5,'+4,'-1.2.3,'-1e5\r\n"
        );
    }
}
