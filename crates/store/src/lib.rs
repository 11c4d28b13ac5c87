//! SQLite behind narrow repositories: migrations, one method one transaction.
