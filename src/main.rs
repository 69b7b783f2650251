//! `stn`: hands the command line what it needs of the composition root.

use station::adapters::cli::{self, Deps, OpenHome, Serve};
use station::app::{self, ServeOptions};
use station::process;
use station::redact::Redactor;
use station::telemetry;
#[cfg(feature = "failpoints")]
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let deps = Deps {
        first_use: app::first_use,
        init_root: app::init_root,
        refuse_foreign: app::refuse_foreign_stores,
        open: |OpenHome { home, variables, lock, redactor, takes_up_files, ask, work }| {
            Box::pin(async move {
                let app = app::open_for_command(home, variables, lock, redactor, takes_up_files, ask).await?;
                work(Arc::clone(&app.station)).await
            })
        },
        serve: |Serve { home, variables, redactor, flags, background, idle, ask, stretched }| {
            Box::pin(app::serve(ServeOptions { home, variables, redactor, flags, background, idle, ask, stretched }))
        },
    };
    process::leave_no_image();
    let redactor = Redactor::default();
    telemetry::report_panics(redactor.clone());
    #[cfg(feature = "failpoints")]
    if let Err(problem) = station::failpoint::arm(&std::env::var(station::failpoint::VARIABLE).unwrap_or_default()) {
        let _nowhere_else = writeln!(std::io::stderr(), "{problem}");
        return ExitCode::from(78);
    }
    cli::run(std::env::args_os(), std::env::vars_os(), redactor, deps)
}
