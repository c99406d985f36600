//! The rules that an operator adds.

use http::Method;
use kernel::{Page, PageRequest};

use crate::edit::Changed;
use crate::roles::RolePattern;
use crate::rules::is_path_pattern;
use crate::store as rows;
use crate::{AddedRule, Error, Identity, Result};

impl Identity {
    /// Lets whoever has the role use the routes.
    pub async fn create_rule(&self, role: &str, method: &str, path: &str) -> Result<AddedRule> {
        let role: RolePattern = role.parse()?;
        let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let method_fits = method == "*" || known.iter().any(|known| known == method);
        if !method_fits || !is_path_pattern(path) {
            return Err(Error::InvalidRule);
        }
        let rule = AddedRule {
            id: kernel::id::new(),
            role: role.to_string(),
            method: method.to_owned(),
            path: path.to_owned(),
            created_at: self.0.clock.now(),
        };
        let statements = vec![rows::rule_insertion(&rule), rows::new_access_version()];
        self.write(statements, &[changed("create", &rule)]).await?;
        Ok(rule)
    }

    /// The rules that were added, oldest first.
    pub async fn list_rules(&self, page: &PageRequest) -> Result<Page<AddedRule>> {
        let rules = rows::list_rules(&self.0.database, page).await?;
        Ok(Page::from_fetched(rules, page, |rule| rule.id.clone()))
    }

    /// Takes a rule back.
    pub async fn delete_rule(&self, id: &str) -> Result<AddedRule> {
        let missing = || Error::NotFound { what: "rule", id: rows::shortened(id) };
        let rule = rows::find_rule(&self.0.database, id).await?.ok_or_else(missing)?;
        let statements = vec![rows::delete_rule(id), rows::new_access_version()];
        match self.write(statements, &[changed("delete", &rule)]).await {
            // Somebody was faster.
            Err(Error::Store(cause)) if matches!(*cause, store::Error::Unexpected { .. }) => {
                Err(missing())
            }
            outcome => outcome.map(|()| rule),
        }
    }
}

fn changed(verb: &'static str, rule: &AddedRule) -> Changed {
    let shown = serde_json::to_value(rule).ok();
    let (before, after) = if verb == "create" { (None, shown) } else { (shown, None) };
    Changed { verb, what: "rule", id: rule.id.clone(), org_id: None, before, after }
}
