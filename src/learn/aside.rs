//! Long work on a thread of its own, while the calling thread says that it goes on.
//!
//! A fit may take minutes in which a library says nothing; whoever waits for it (a spinner,
//! the health of the role `train`) hears from it all the same: the last words again, by which
//! progress can be told from patience.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::LearnError;

/// How long it is silent at most.
const SILENCE: Duration = Duration::from_secs(5);

/// Does `work`; what it says comes to `progress`, on the calling thread, and again whenever
/// it has been silent for a while.
///
/// # Errors
/// [`LearnError::Interrupted`] if the thread was lost.
pub(super) fn aside<R: Send>(
    progress: &mut dyn FnMut(&str),
    work: impl FnOnce(&mut dyn FnMut(&str)) -> R + Send,
) -> Result<R, LearnError> {
    enum Message<R> {
        Said(String),
        Done(R),
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The receiver is there until it has the result.
            let result = work(&mut |what| drop(sender.send(Message::Said(what.to_owned()))));
            let _ = sender.send(Message::Done(result));
        });
        let mut last = String::new();
        loop {
            match receiver.recv_timeout(SILENCE) {
                Ok(Message::Said(what)) => {
                    progress(&what);
                    last = what;
                }
                Ok(Message::Done(result)) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => progress(&last),
                Err(RecvTimeoutError::Disconnected) => return Err(LearnError::Interrupted),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_work_says_is_heard_in_order_and_its_result_comes_back() {
        let mut heard = Vec::new();
        let result = aside(&mut |what| heard.push(what.to_owned()), |say| {
            say("one");
            say("two");
            7
        });
        assert_eq!(result.unwrap(), 7);
        assert_eq!(heard, ["one", "two"]);
    }
}
