use super::*;

/// Who may ask without a token, written once more: the same user and root, and nobody of whom it is not known.
#[test]
fn only_the_own_user_and_root_are_served() {
    let untold = || Err(Unknown::Untold("why".to_owned()));
    for (found, own, served) in [
        (Some(Ok(1000)), Some(1000), true),
        (Some(Ok(0)), Some(1000), true),
        (Some(Ok(0)), Some(0), true),
        (Some(Ok(1001)), Some(1000), false),
        (Some(Ok(1000)), Some(0), false),
        (Some(Ok(65_534)), Some(1000), false),
        (Some(Ok(u32::MAX)), Some(1000), false),
        (Some(Ok(1000)), None, false),
        (Some(Err(Unknown::OtherMachine)), Some(1000), false),
        (Some(Err(Unknown::Closed)), Some(0), false),
        (Some(untold()), Some(0), false),
        (Some(untold()), None, false),
        (None, Some(0), false),
        (None, None, false),
    ] {
        let user = found.clone().map(CallingUser);
        let judged = judge(user.as_ref(), own);
        assert_eq!(judged.is_ok(), served, "{found:?} at a server of {own:?}");
        let Err(refusal) = judged else { continue };
        assert_eq!(refusal.code, ErrorCode::Forbidden);
        for word in ["allow_other_users", "--allow-other-users", "--http-token-file"] {
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
    }
}

#[test]
fn a_refusal_says_who_asks_or_why_that_is_not_known() {
    let refusal = |found| judge(Some(&CallingUser(found)), Some(1000)).unwrap_err().message;
    assert!(refusal(Ok(1001)).contains("user 1001"));
    assert!(refusal(Err(Unknown::Untold("the kernel sleeps".to_owned()))).contains("the kernel sleeps"));
    assert!(refusal(Err(Unknown::Closed)).contains("closed"));
}
