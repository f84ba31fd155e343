//! Arguments -> command -> exit code. One file per command; what they share with the service lives there.

pub mod args;
pub mod check;
pub mod demo;
pub mod generate;
pub mod label;
pub mod models;
pub mod replay;
pub mod run;
pub mod train;

use std::process::ExitCode;

use args::{Cli, Command};

use crate::config::{ConfigError, Refused};
use crate::replay::InputError;

/// Done, failed, bad usage or configuration: 0, 1, 2. Clap itself ends bad usage with 2.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Label(args) => label::run(args),
        Command::Train(args) => train::run(args),
        Command::Models(args) => models::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("larum: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 2 where the user's usage or configuration is wrong, else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| {
        cause.is::<Refused>() || cause.is::<ConfigError>() || cause.is::<Usage>() || cause.is::<InputError>()
    });
    if usage { 2 } else { 1 }
}

/// Arguments that clap could not see are wrong: a column that is not in the file, a file that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn what_the_user_can_mend_is_2() {
        let missing = crate::config::Config::load("no/such/larum.toml".as_ref()).map(|_| ()).context("to start");
        assert_eq!(exit_code(&missing.unwrap_err()), 2);
        assert_eq!(exit_code(&anyhow::Error::new(Usage("no column `x`".into())).context("replay")), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), 1);
    }
}
