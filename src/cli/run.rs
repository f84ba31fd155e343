//! `larum run`: the service, until SIGTERM or SIGINT.

use super::args::RunArgs;
use crate::api;
use crate::config::Config;
use crate::engine::{Blueprint, BlueprintError, EngineLimits};
use crate::service::{Service, Shared};
use crate::telemetry;
use anyhow::Context;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

pub fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::init_logging("info");
    let config = Config::load(&args.config)?;
    let blueprint = blueprint(&config)?;
    let service = Service::start(config, blueprint)?;
    let server = match api::Server::start(service.shared().clone()) {
        Ok(server) => server,
        Err(error) => {
            service.shared().stop();
            return service.finish().and(Err(error));
        }
    };
    tracing::info!(address = %server.addr(), "listening");
    stop_on_signal(service.shared().clone())?;
    let result = service.finish();
    server.stop();
    result
}

/// Compiles what a configuration says; a refused query is shown where it stands.
///
/// # Errors
/// When the fields, the query or a model is not possible.
pub fn blueprint(config: &Config) -> anyhow::Result<Arc<Blueprint>> {
    let query = &config.features;
    let limits = engine_limits(config);
    let blueprint =
        Blueprint::new(&config.event, &query.sql, config.models.clone(), config.decision, config.seed, limits);
    match blueprint.and_then(|blueprint| blueprint.quieted(&config.quiet)) {
        Ok(blueprint) => Ok(Arc::new(blueprint)),
        Err(BlueprintError::Query(error)) => {
            Err(query.refused(error.line as usize, error.column as usize, &error.message).into())
        }
        Err(error) => Err(super::Usage(error.to_string()).into()),
    }
}

pub(super) fn engine_limits(config: &Config) -> EngineLimits {
    let limits = &config.limits;
    EngineLimits {
        entities_max: limits.entities,
        window_rows_max: limits.window_rows,
        categories_max: limits.categories,
    }
}

/// Both signals end the service the same way; a second one ends the process at once.
pub(super) fn stop_on_signal(shared: Arc<Shared>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = move || {
        let (mut terminate, mut interrupt) = signals;
        runtime.block_on(async {
            for again in [false, true] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if again {
                    tracing::warn!("ended at once; the next start repeats what was not committed");
                    std::process::exit(1);
                }
                shared.stop();
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("cannot start a thread")?;
    Ok(())
}
