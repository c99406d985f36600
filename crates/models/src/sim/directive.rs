//! `[[…]]` in a message steers the simulation.

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Before the colon.
    pub name: String,
    /// After it.
    pub value: String,
}

impl Directive {
    /// All directives in a text, in order.
    pub fn all(text: &str) -> Vec<Self> {
        text.split("[[")
            .skip(1)
            .filter_map(|rest| rest.split_once("]]"))
            .map(|(inside, _)| {
                let (name, value) = inside.split_once(':').unwrap_or((inside, ""));
                Self { name: name.trim().to_owned(), value: value.to_owned() }
            })
            .collect()
    }

    /// The value of the first directive of this name.
    pub fn find<'a>(all: &'a [Self], name: &str) -> Option<&'a str> {
        all.iter()
            .find(|directive| directive.name == name)
            .map(|directive| directive.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_found_in_prose() {
        let all = Directive::all("please [[words:3]] and [[hang]] [[tool:f {\"a\":[[1]]]]");
        assert_eq!(Directive::find(&all, "words"), Some("3"));
        assert_eq!(Directive::find(&all, "hang"), Some(""));
        assert_eq!(Directive::find(&all, "none"), None);
    }
}
