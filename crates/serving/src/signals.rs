//! What the operating system asks of the process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Waits for SIGTERM or Ctrl-C and cancels the token; at the second, returns at once so that the process can end
/// without waiting.
pub async fn shut_down(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for again in [false, true] {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        if !again {
            tracing::info!("shutting down: calls in progress may finish; a second signal ends them");
            shutdown.cancel();
        }
    }
    Ok(())
}
