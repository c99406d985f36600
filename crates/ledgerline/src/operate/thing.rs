//! What can be done to every thing that has a name and can be switched off: shown, renamed, disabled
//! and enabled. A macro, so that each noun's help has examples of its own.

macro_rules! thing_commands {
    ($noun:literal, $what:literal, $collection:literal) => {
        /// One thing, whatever is done to it.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Thing {
            #[command(
                about = concat!("Show ", $what),
                after_help = concat!("Example:\n  ledgerline ", $noun, " show ID")
            )]
            Show {
                /// Its id
                id: String,
            },
            #[command(
                about = concat!("Rename ", $what),
                after_help = concat!("Example:\n  ledgerline ", $noun, " rename ID 'A new name'")
            )]
            Rename {
                /// Its id
                id: String,
                /// Its new name, 1 to 200 characters
                name: String,
                #[command(flatten)]
                edit: crate::operate::server::Edit,
            },
            #[command(
                about = concat!("Switch ", $what, " off, with all credentials that belong to it"),
                after_help = concat!("Examples:\n  ledgerline ", $noun, " disable ID\n  ledgerline ", $noun, " disable ID --if-version 3")
            )]
            Disable {
                /// Its id
                id: String,
                #[command(flatten)]
                edit: crate::operate::server::Edit,
            },
            #[command(
                about = concat!("Switch ", $what, " on again"),
                after_help = concat!("Example:\n  ledgerline ", $noun, " enable ID")
            )]
            Enable {
                /// Its id
                id: String,
                #[command(flatten)]
                edit: crate::operate::server::Edit,
            },
        }

        impl Thing {
            async fn run(
                self,
                server: &crate::operate::server::Server,
                columns: &[crate::operate::show::Column],
            ) -> anyhow::Result<()> {
                use serde_json::json;
                let at = |id: &str| crate::operate::server::path(&["admin", $collection, id]);
                match self {
                    Self::Show { id } => server.show(&at(&id), &json!({}), columns).await,
                    Self::Rename { id, name, edit } => {
                        server.change(&at(&id), json!({"name": name}), edit, columns).await
                    }
                    Self::Disable { id, edit } => {
                        server.change(&at(&id), json!({"disabled": true}), edit, columns).await
                    }
                    Self::Enable { id, edit } => {
                        server.change(&at(&id), json!({"disabled": false}), edit, columns).await
                    }
                }
            }
        }
    };
}
