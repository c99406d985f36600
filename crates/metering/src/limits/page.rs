//! Where a list of limits continues.

use kernel::Cursor;

use super::Limit;
use crate::{Error, Result};

/// What a list of limits is sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitKey {
    pub(crate) scope: String,
    pub(crate) subject: String,
    pub(crate) measure: String,
    pub(crate) span: String,
    /// Empty for limits that have none.
    pub(crate) currency: String,
}

impl LimitKey {
    /// The key of a limit as cursors hold it.
    pub(crate) fn text(limit: &Limit) -> String {
        let currency = limit.currency.as_ref().map_or("", kernel::Asset::as_str);
        let parts =
            [limit.scope.as_str(), &limit.subject, limit.measure.as_str(), limit.span.as_str()];
        format!("{}/{currency}", parts.join("/"))
    }

    /// The key in a cursor. A subject may be any text: all else has no slash.
    pub(crate) fn read(cursor: &Cursor) -> Result<Self> {
        let (scope, rest) = cursor.key().split_once('/').ok_or(Error::Cursor)?;
        let mut parts = rest.rsplitn(4, '/').map(str::to_owned);
        let mut next = || parts.next().ok_or(Error::Cursor);
        let (currency, span, measure, subject) = (next()?, next()?, next()?, next()?);
        Ok(Self { scope: scope.to_owned(), subject, measure, span, currency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LimitMeasure, LimitScope, LimitSpan};

    #[test]
    fn a_key_comes_back_from_its_cursor_whatever_the_subject_is() {
        for subject in ["key", "", "a/b//c"] {
            let limit = Limit {
                scope: LimitScope::Key,
                subject: subject.to_owned(),
                measure: LimitMeasure::Spend,
                span: LimitSpan::Day,
                currency: Some("CNY".parse().unwrap()),
                most: 1,
            };
            let key = LimitKey::read(&Cursor::after(LimitKey::text(&limit))).unwrap();
            let text = (&*key.scope, &*key.subject, &*key.measure, &*key.span, &*key.currency);
            assert_eq!(text, ("key", subject, "spend", "day", "CNY"));
        }
        for foreign in ["", "019", "a/b/c/d"] {
            assert!(LimitKey::read(&Cursor::after(foreign)).is_err(), "{foreign}");
        }
    }
}
