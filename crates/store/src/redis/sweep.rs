//! Sweeping: the backing store's deadlines are older than the truth, so Redis is asked before a session goes.

use super::Inner;
use super::backing::Backing;
use crate::{StoreError, Swept};
use reseal_core::{Session, Timestamp};

/// How often a sweep looks for others when all that it found were in use.
const LOOKS: usize = 16;

impl<B: Backing> Inner<B> {
    pub(super) async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        let sessions = self.sweep_sessions(sessions_before, limit).await?;
        let rest = self.backing.sweep_but_sessions(now, sessions_before, limit).await?;
        Ok(Swept { sessions, ..rest })
    }

    async fn sweep_sessions(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        for _ in 0..LOOKS {
            let mut outdated = self.backing.outdated(before, limit).await?;
            if outdated.is_empty() {
                break;
            }
            // Those that were used get their deadlines, and may be outdated by these.
            let used = self.write_back_of(&outdated).await?;
            outdated.retain(|session| !used.contains(&session.id));
            let removed = self.backing.remove(&outdated).await?;
            // Which of them stayed is not known: it has changed since, and may be in use.
            if removed == outdated.len() {
                self.forget_swept(&outdated).await;
            }
            if removed > 0 {
                return Ok(removed);
            }
        }
        Ok(0)
    }

    async fn forget_swept(&self, sessions: &[Session]) {
        let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
        let forgetting = self.with_link(async |link| link.forget(&ids).await).await;
        if let Err(error) = forgetting {
            tracing::debug!(%error, "Redis keeps rows of swept sessions until they expire");
        }
    }
}
