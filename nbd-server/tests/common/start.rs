//! Requests that are answered later.

use std::sync::mpsc::{self, Receiver};

use nbd_server::client::{Client, Command, CommandError, Reply};

/// Submits a request, and answers where its reply is going to be.
pub(crate) fn start(client: &Client, command: Command<'_>) -> Receiver<Result<Reply, CommandError>> {
    let (sender, answer) = mpsc::channel();
    client.submit(command, Box::new(move |result| sender.send(result).unwrap_or_default()));
    answer
}
