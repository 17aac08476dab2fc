//! What is kept by a journal: over kills, without a disk, and in as much time whatever was asked for.

use super::*;

use tollgate::otp::desk::DeskFault;

/// What a process that is killed leaves is what stands in its files.
fn killed(folder: &Path) -> (Desk, TempDir) {
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    let journal = journal(Some(copy.path()), &Metrics::new().unwrap());
    (Desk::new(Arc::new(memory()), journal), copy)
}

#[tokio::test]
async fn a_kill_forgets_no_guess_and_no_use() {
    let (desk, folder) = lasting();
    let (slot, nonce) = (slot(1), draft(1).nonce);
    let (made, _) = desk.open(slot, draft(1), START).await.unwrap();
    let (after, _copy) = killed(folder.path());
    assert_eq!(after.look(slot, nonce, START).await, Ok(Some(made)));

    for attempts in 1..=3 {
        let Ok(Guess::Counted(card)) = desk.guess(slot, None, START).await else { panic!("a guess") };
        let (after, _copy) = killed(folder.path());
        assert_eq!(after.look(slot, nonce, START).await, Ok(Some(card)), "after guess {attempts}");
    }
    let (after, _copy) = killed(folder.path());
    assert_eq!(after.guess(slot, None, START).await, Ok(Guess::Exhausted));

    assert!(matches!(desk.consume(slot, nonce, START).await, Ok(Consumed::First(_))));
    let (after, _copy) = killed(folder.path());
    assert_eq!(after.consume(slot, nonce, START).await, Ok(Consumed::Late));
    assert_eq!(after.guess(slot, None, START).await, Ok(Guess::Used));
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::write(&data, "a file where the folder should be").unwrap();
    let desk = Desk::new(Arc::new(memory()), journal(Some(&data), &Metrics::new().unwrap()));
    assert_eq!(desk.open(slot(1), draft(1), START).await, Err(DeskFault::NotDurable));
    assert_eq!(desk.guess(slot(1), None, START).await, Err(DeskFault::NotDurable));
    assert_eq!(desk.guess(slot(2), None, START).await, Err(DeskFault::NotDurable), "known or not");
    let consumed = desk.consume(slot(1), draft(1).nonce, START).await;
    assert_eq!(consumed, Err(DeskFault::NotDurable));
}

#[tokio::test]
async fn after_the_end_nothing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(Some(folder.path()), &Metrics::new().unwrap());
    let desk = Desk::new(Arc::new(memory()), journal.clone());
    journal.close().await;
    assert_eq!(desk.open(slot(1), draft(1), START).await, Err(DeskFault::NotDurable));
}

/// The disk is what takes time, so what is asked for and is not there has to go there as well.
#[tokio::test]
async fn a_guess_at_nothing_goes_to_the_disk_like_any_other() {
    let (metrics, folder) = (Metrics::new().unwrap(), tempfile::tempdir().unwrap());
    let desk = Desk::new(Arc::new(memory()), journal(Some(folder.path()), &metrics));
    let commits = || {
        let text = metrics.render();
        let name = "tollgate_journal_commit_seconds_count ";
        let count = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        count.parse::<u64>().unwrap()
    };
    desk.open(slot(1), draft(1), START).await.unwrap();
    for (asked, found) in [(1, "known"), (2, "unknown"), (1, "known"), (1, "known"), (1, "exhausted")] {
        let before = commits();
        desk.guess(slot(asked), None, START).await.unwrap();
        assert_eq!(commits(), before + 1, "{found}");
    }
    let before = commits();
    desk.guess(slot(1), Some(Nonce::new([9; 8])), START).await.unwrap();
    assert_eq!(commits(), before + 1, "another code");
    assert_eq!(desk.look(slot(2), draft(1).nonce, START).await, Ok(None), "nothing came to be");
}

#[tokio::test]
async fn what_is_too_long_is_refused_or_cut() {
    use tollgate::otp::card::{Delivery, Noted, SEALED_MAX};
    use tollgate::sms::DeliveryState;
    let desk = forgetful();
    let long = Draft { sealed: vec![1; SEALED_MAX + 1], ..draft(1) };
    assert_eq!(desk.open(slot(1), long, START).await, Err(DeskFault::Broken));
    let full = Draft { sealed: vec![1; SEALED_MAX], ..draft(1) };
    desk.open(slot(1), full, START).await.unwrap();
    let delivery = Delivery {
        attempt: 1,
        provider: "p".repeat(100).into(),
        message_id: "m".repeat(300).into(),
        state: DeliveryState::Sent,
        sent_at: START,
        changed_at: START,
    };
    let noted = desk.note(slot(1), draft(1).nonce, delivery, START).await;
    let Ok(Noted::Changed(card)) = noted else { panic!("{noted:?}") };
    assert_eq!((card.deliveries[0].provider.len(), card.deliveries[0].message_id.len()), (64, 128));
    let key = KeyHash::from_u128(5);
    assert_eq!(desk.answer(key, &[0; 2049], START, TTL).await, Err(DeskFault::Broken));
}

/// Random codes and guesses, a kill after each few: what comes back is what was told.
#[tokio::test]
async fn kills_at_random_forget_nothing_that_was_told() {
    let mut dice = Dice::new(5);
    let (mut desk, mut folder) = lasting();
    let mut told: Vec<Option<Card>> = vec![None; 6];
    for round in 0..120 {
        let number = dice.below(6) as usize;
        let slot = slot(number as u128);
        match dice.below(3) {
            0 => told[number] = Some(desk.open(slot, draft(round + 1), START).await.unwrap().0),
            1 => {
                if let Guess::Counted(card) = desk.guess(slot, None, START).await.unwrap() {
                    told[number] = Some(card);
                }
            }
            _ => {
                let nonce = told[number].as_ref().map_or(Nonce::new([0; 8]), |card| card.nonce);
                if let Consumed::First(card) = desk.consume(slot, nonce, START).await.unwrap() {
                    told[number] = Some(card);
                }
            }
        }
        if dice.below(6) == 0 {
            (desk, folder) = killed(folder.path());
            for (number, told) in told.iter().enumerate() {
                let nonce = told.as_ref().map_or(Nonce::new([0; 8]), |card| card.nonce);
                let kept = desk.look(super::slot(number as u128), nonce, START).await;
                assert_eq!(kept, Ok(told.clone()), "round {round}, slot {number}");
            }
        }
    }
}
