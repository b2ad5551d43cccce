//! Who may do what, and when.

use super::*;
use crate::CommitError;

#[test]
fn a_frozen_source_refuses_every_write_and_answers_every_read() {
    each_pair(async |pair, from, _| {
        fill(&*from.store, 3).await;
        let mark = source_mark(1, SourceState::Noting);
        from.end.put(None, Some(mark.clone())).await.unwrap();
        from.end.put(Some(1), Some(SourceMark { state: SourceState::Frozen, ..mark.clone() })).await.unwrap();
        let store = &*from.store;
        let user = store.user(user_id(0)).await.unwrap().unwrap();
        let next = reseal_core::User { version: 2, ..user.clone() };
        let session = store.session(session_id(0)).await.unwrap().unwrap().session;
        let line = TimelineEntry { session_id: session.id, at: NOW, kind: TimelineKind::Late, ip: None };
        let key = sample(any_key(), 1).pop().unwrap();
        let refused = [
            start(&super::session(50, &user)),
            Write::SwapSession(Box::new(reseal_core::Session { version: session.version + 1, ..session })),
            Write::CreateUser(Box::new(super::user(50)), secrets("x")),
            Write::SwapUser(Box::new(next), None),
            Write::SwapSecrets { user: user.id, version: 1, secrets: secrets("x") },
            Write::CreateClient(Box::new(client("other"))),
            Write::DeleteClient("web".parse().unwrap()),
            Write::CreateChallenge(Box::new(challenge(9))),
            Write::TakeChallenge { id: challenge_id(0), version: 1 },
            Write::PutKey(Box::new(key)),
            Write::Timeline(line),
            Write::Log(Event { kind: EventKind::ClaimsChanged { sub: user.id, rev: 9 }, until: UNTIL }),
            Write::PutMeta("mode".to_owned(), vec![]),
            Write::PutMeta("new".to_owned(), vec![]),
        ];
        let before = everything(&*from.end).await;
        for write in refused {
            let named = format!("{pair}: {write:?}");
            let error = commit(store, [write]).await.expect_err(&named);
            assert!(matches!(error, CommitError::Store(StoreError::Unavailable(_))), "{named}: {error:?}");
        }
        let end = crate::EndSessions {
            filter: crate::EndFilter::All { limit: 10 },
            reason: EndReason::Revoked,
            now: NOW,
            ip: None,
            event_until: UNTIL,
        };
        assert!(matches!(store.end_sessions(end).await, Err(StoreError::Unavailable(_))));
        assert_eq!(everything(&*from.end).await, before);
        assert_eq!(from.store.user_by_username("user1").await.unwrap().unwrap().0.id, user_id(1));
        assert_eq!(store.check().await.ok(), Some(()), "it is ready for what it can do");
        check_may_serve(store).await.unwrap();
        // Thawed, all is as before.
        from.end.put(Some(1), Some(mark)).await.unwrap();
        with_user(store, 51).await;
        from.end.put(Some(1), None).await.unwrap();
        with_user(store, 52).await;
    });
}

#[test]
fn a_write_beside_refused_ones_is_not_dragged_along() {
    // What decides to write nothing is answered, whoever shares its batch.
    each_pair(async |_, from, _| {
        let (_, session) = with_session(&*from.store, 0).await;
        let mark = source_mark(1, SourceState::Frozen);
        from.end.put(None, Some(mark)).await.unwrap();
        let results = at_once(32, |i| {
            let (store, id) = (Arc::clone(&from.store), session.id);
            async move {
                if i % 2 == 0 {
                    let read = |s: &crate::Snapshot| (s.session.version, Default::default());
                    return crate::decide(&*store, id, UNTIL, read).await.is_ok();
                }
                commit(&*store, [Write::PutMeta(format!("{i}"), vec![])]).await.is_ok()
            }
        });
        for (i, done) in results.await.into_iter().enumerate() {
            assert_eq!(done, i % 2 == 0);
        }
    });
}

#[test]
fn nothing_is_final_while_something_is_noted() {
    each_pair(async |_, from, _| {
        let mark = source_mark(1, SourceState::Noting);
        from.end.put(None, Some(mark.clone())).await.unwrap();
        with_user(&*from.store, 1).await;
        let moved = SourceMark { state: SourceState::Moved, ..mark.clone() };
        let refused = from.end.put(Some(1), Some(moved.clone())).await;
        assert!(matches!(refused, Err(TransferError::Thawed)));
        with_user(&*from.store, 2).await;
        let noted = from.end.noted(100).await.unwrap();
        assert_eq!(noted.len(), 2, "each record once, with its secrets: {noted:?}");
        from.end.forget(1, noted).await.unwrap();
        from.end.put(Some(1), Some(moved)).await.unwrap();
        commit(&*from.store, [Write::PutMeta("x".to_owned(), vec![])]).await.unwrap_err();
        let error = check_may_serve(&*from.store).await.unwrap_err();
        assert!(matches!(error, NotServed::Moved { .. }), "{error}");
    });
}

#[test]
fn a_note_of_a_later_change_is_not_forgotten_with_an_earlier_one() {
    each_pair(async |_, from, _| {
        from.end.put(None, Some(source_mark(1, SourceState::Noting))).await.unwrap();
        for value in 0..50 {
            commit(&*from.store, [Write::PutMeta("hot".to_owned(), vec![value])]).await.unwrap();
            let noted = from.end.noted(10).await.unwrap();
            assert_eq!(noted.iter().map(|n| &n.item).collect::<Vec<_>>(), [&Item::Meta("hot".to_owned())]);
            commit(&*from.store, [Write::PutMeta("hot".to_owned(), vec![value, 1])]).await.unwrap();
            from.end.forget(1, noted).await.unwrap();
            assert_eq!(from.end.noted_count().await.unwrap(), 1);
            let noted = from.end.noted(10).await.unwrap();
            from.end.forget(1, noted).await.unwrap();
            assert_eq!(from.end.noted_count().await.unwrap(), 0);
        }
    });
}

#[test]
fn a_target_in_use_is_left_alone() {
    each_pair(async |_, from, to| {
        fill(&*from.store, 2).await;
        with_user(&*to.store, 7).await;
        let error = run(&from, &to, options(10), &mut Steps::all()).await.unwrap_err();
        assert!(matches!(error, TransferError::InUse), "{error}");
        assert!(to.store.user(user_id(7)).await.unwrap().is_some());
        assert!(Source::mark(&*from.end).await.unwrap().is_none(), "the source was not touched");
    });
}

#[test]
fn a_source_goes_to_one_target_only() {
    each_pair(async |_, from, to| {
        let elsewhere = Place::sqlite();
        fill(&*from.store, 2).await;
        let stopped = run(&from, &to, options(1), &mut Steps::up_to(3)).await;
        assert!(matches!(stopped, Err(TransferError::Stopped)));
        let error = run(&from, &elsewhere, nth_run(1, 2), &mut Steps::all()).await.unwrap_err();
        assert!(matches!(error, TransferError::Elsewhere { .. }), "{error}");
        complete(&from, &to, 5).await;
        let error = run(&from, &elsewhere, nth_run(1, 3), &mut Steps::all()).await.unwrap_err();
        assert!(matches!(error, TransferError::Moved { .. }), "{error}");
    });
}

#[test]
fn whoever_comes_later_has_it_and_the_earlier_one_stops() {
    each_pair(async |_, from, to| {
        fill(&*from.store, 20).await;
        run(&from, &to, options(5), &mut Steps::up_to(4)).await.unwrap_err();
        let (first, to_mark) =
            (Source::mark(&*from.end).await.unwrap().unwrap(), Target::mark(&*to.end).await);
        let to_mark = to_mark.unwrap().unwrap();
        run(&from, &to, nth_run(5, 2), &mut Steps::up_to(2)).await.unwrap_err();
        let late = to.end.write(first.run, Batch::default(), to_mark).await;
        assert!(matches!(late, Err(TransferError::Superseded)));
        assert!(matches!(from.end.forget(first.run, vec![]).await, Err(TransferError::Superseded)));
        assert!(matches!(from.end.put(Some(first.run), None).await, Err(TransferError::Superseded)));
        run(&from, &to, nth_run(5, 3), &mut Steps::all()).await.unwrap();
        assert_same(&from, &to).await;
    });
}

#[test]
fn an_aborted_migration_leaves_no_trace_at_the_source_and_may_begin_anew() {
    let (from, to) = (Place::sqlite(), Place::sqlite());
    block_on(async {
        fill(&*from.store, 10).await;
        let before = schema(&from);
        run(&from, &to, options(3), &mut Steps::up_to(5)).await.unwrap_err();
        assert_ne!(schema(&from), before);
        let mark = Source::mark(&*from.end).await.unwrap().unwrap();
        from.end.put(Some(mark.run), None).await.unwrap();
        assert_eq!(schema(&from), before);
        let error = check_may_serve(&*to.store).await.unwrap_err();
        assert!(matches!(error, NotServed::Incomplete { .. }), "{error}");
        // What the target still has must not stay there.
        let user = from.store.user(user_id(0)).await.unwrap().unwrap();
        let end = crate::EndSessions {
            filter: crate::EndFilter::User { user: user.id, except: None },
            reason: EndReason::Revoked,
            now: NOW,
            ip: None,
            event_until: UNTIL,
        };
        from.store.end_sessions(end).await.unwrap();
        commit(&*from.store, [Write::DeleteUser { user: user.id, version: 1, at: NOW }]).await.unwrap();
        let mut steps = Steps::all();
        run(&from, &to, nth_run(3, 2), &mut steps).await.unwrap();
        assert!(steps.seen.contains(&Progress::Clearing));
        assert_same(&from, &to).await;
    });
}

fn schema(place: &Place) -> Vec<String> {
    let conn = place.raw();
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on() {
    each_pair(async |pair, from, to| {
        fill(&*from.store, 12).await;
        let (mut run_number, mut stops) = (2, 0);
        let ended = loop {
            // A step further each time, so that every step is the last one once.
            match run(&from, &to, nth_run(4, run_number), &mut Steps::up_to(2 + stops % 7)).await {
                Err(TransferError::Stopped) => {
                    check_may_serve(&*to.store).await.unwrap_err();
                    check_may_serve(&*from.store).await.unwrap();
                    with_user(&*from.store, 1000 + stops).await;
                    stops += 1;
                }
                Err(error) => panic!("{pair}: {error}"),
                Ok(ended) => break ended,
            }
            assert!(stops < 100, "{pair}: it gets nowhere");
            run_number += 1;
            if stops > 20 {
                break run(&from, &to, nth_run(4, run_number), &mut Steps::all()).await.unwrap();
            }
        };
        assert!(matches!(ended, Ended::Complete(_)));
        assert_same(&from, &to).await;
        check_may_serve(&*to.store).await.unwrap();
        // Once more: it was done before.
        match run(&from, &to, nth_run(4, 999), &mut Steps::all()).await.unwrap() {
            Ended::Complete(report) => assert!(report.done_before),
            Ended::Following => panic!("it was done"),
        }
    });
}

#[test]
fn a_run_that_stays_live_leaves_the_source_in_use() {
    each_pair(async |_, from, to| {
        fill(&*from.store, 5).await;
        let staying = Options { stay_live: true, ..options(10) };
        let ended = run(&from, &to, staying, &mut Steps::up_to(12)).await.unwrap();
        assert_eq!(ended, Ended::Following);
        with_session(&*from.store, 77).await;
        complete(&from, &to, 10).await;
        assert!(to.store.session(session_id(77)).await.unwrap().is_some());
    });
}

fn source_mark(run: u64, state: SourceState) -> SourceMark {
    SourceMark { id: "m".to_owned(), run, state, to: "there".to_owned() }
}
