"""What a factory makes next, and what it keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from factories import FILTERS, Killed, everything, kept, make, make_together, plan, score

from palmforge.data.factory.filters import Filters
from palmforge.data.factory.ledger import CAPTURE, GIVEN_UP, REFERENCE, SURPLUS
from palmforge.data.factory.plan import WAIT, Job
from palmforge.data.factory.store import FactoryStore
from palmforge.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def whole():
    """12 palms × 3, by one process."""
    return make(plan(12))


def test_palms_and_captures_are_as_many_as_were_asked_for(whole):
    assert whole.num_complete == 12 == len(whole.used())
    for identity in whole.complete():
        rows = whole.kept(identity)
        assert [row["capture"] for row in rows] == [0, 1, 2]
        assert all(0.3 <= row["cosine"] <= 0.99 and row["brightness"] == 0.5 for row in rows)
    assert whole.num_kept == 36
    assert whole.jobs() == []


def test_this_fake_meets_every_reason(whole):
    assert set(whole.rejected[REFERENCE]) == {"brightness", "uniqueness"}
    assert set(whole.rejected[CAPTURE]) >= {"brightness", "consistency"}
    assert whole.num_surplus and SURPLUS not in whole.rejected[CAPTURE]  # it is no fault of theirs
    assert any(whole.given_up(identity) for identity in whole.accepted)


def test_counters_are_what_the_rows_say(whole):
    rows = everything(whole).values()
    for kind in (REFERENCE, CAPTURE):
        reasons = [r["reason"] for r in rows if r["kind"] == kind and "reason" in r]
        rejected = sorted(reason for reason in reasons if reason != SURPLUS)
        assert sorted(whole.rejected[kind].elements()) == rejected
        assert reasons.count(SURPLUS) == (whole.num_surplus if kind == CAPTURE else 0)
    assert whole.num_judged == sum(row["kind"] == REFERENCE for row in rows)


def test_palms_that_are_given_up_are_replaced_and_still_keep_others_from_being_near(whole):
    given_up = [identity for identity in whole.accepted if whole.given_up(identity)]
    assert not set(given_up) & set(whole.used())
    for identity in given_up:
        assert len(whole.attempts[identity]) == 12  # 3 × 3, in whole batches
        assert whole.kept(identity) == []  # none of the pictures is in the set
    assert whole.used() == [i for i in whole.accepted if i not in given_up][:12]
    vectors = np.array([whole.references[i]["embedding"] for i in whole.accepted], np.float32)
    assert (np.tril(vectors @ vectors.T, -1) <= FILTERS.uniqueness).all()


def test_uniqueness_is_greedy_in_the_order_of_the_palms(whole):
    taken: list[np.ndarray] = []
    for identity in range(whole.num_judged):
        row = whole.references[identity]
        vector = np.asarray(row["embedding"], np.float32)
        nearest = max((float(vector @ other) for other in taken), default=-1.0)
        assert row["nearest"] == pytest.approx(nearest, abs=1e-5)
        is_good = row["brightness"] == 0.5 and nearest <= FILTERS.uniqueness
        assert (identity in whole.accepted) == is_good == (row["reason"] is None)
        taken += [vector] if is_good else []


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("shuffled", [None, 1])
def test_processes_and_the_order_in_which_they_end_change_nothing(whole, processes, shuffled):
    plans = [plan(12) for _ in range(processes)]
    jobs = make_together(plans, shuffled=shuffled)
    for replica in plans:
        assert kept(replica) == kept(whole)
        assert everything(replica) == everything(whole)
    assert len(set(jobs)) == len(jobs)


def test_no_job_is_done_in_vain(whole):
    """Else what was made would depend on how many processes looked for work."""
    last = max(identity for kind, identity, _ in everything(whole) if kind == REFERENCE)
    needed = whole.accepted.index(whole.used()[-1])
    assert last // 4 == whole.accepted[needed] // 4
    for identity, rows in whole.attempts.items():
        good = [row["attempt"] for row in rows if row["reason"] in (None, SURPLUS)]
        if not whole.given_up(identity):
            assert good[2] // 4 == rows[-1]["attempt"] // 4  # the third ended it


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_loaders_that_ask_ahead_get_batches_that_wait(whole, ahead):
    assert everything(make(plan(12), ahead=ahead)) == everything(whole)


def test_before_it_is_ready_all_batches_wait():
    source = iter(plan())
    assert [next(source) for _ in range(3)] == [{"kind": WAIT}] * 3


@pytest.mark.parametrize("smaller", [1, 5, 11])
def test_a_larger_set_begins_with_the_smaller_one(whole, smaller):
    small = make(plan(smaller))
    assert small.used() == whole.used()[:smaller]
    assert kept(small) == {i: c for i, c in kept(whole).items() if i in small.used()}
    assert everything(small).items() <= everything(whole).items()


def test_a_larger_set_goes_on_from_the_smaller_one(whole):
    grown = plan(12)
    grown.add([dict(row) for row in everything_whole(make(plan(5)))])
    assert everything(make(grown)) == everything(whole)


def everything_whole(done) -> list[dict]:
    return [*done.references.values(), *(r for rows in done.attempts.values() for r in rows)]


@pytest.mark.parametrize("spare", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kill_after", [0, 1, 2, 4])
def test_what_is_killed_goes_on_to_the_same_end(whole, tmp_path, kill_after, spare):
    """In mid-round the rows of some jobs are on the disk, of others not; then other processes."""
    store = FactoryStore(tmp_path)
    with pytest.raises(Killed):
        make_together([plan(12), plan(12)], store, kill_after, kill_after, spare)
    plans = [plan(12) for _ in range(3)]
    make_together(plans, FactoryStore(tmp_path))
    assert kept(plans[0]) == kept(whole)
    assert strip(everything(plans[0])) == strip(everything(whole))


def strip(rows):
    """Scores as the disk has them."""
    return {
        key: {
            k: np.float32(v).tolist() if isinstance(v, float) else v
            for k, v in row.items() if k != "embedding"
        }
        for key, row in rows.items()
    }  # fmt: skip


@pytest.mark.parametrize("lost", ["000", "001", "002"])
def test_a_lost_capture_is_made_again_and_those_after_it(whole, lost):
    """Its batch and the next ones are left out when they are read: they are numbered after it."""
    rows, victim = everything_whole(whole), whole.complete()[3]
    partial = [
        dict(row) for row in rows
        if not (row["identity"] == victim and row.get("capture") == int(lost))
    ]  # fmt: skip
    again = plan(12)
    again.add(partial)
    assert again.num_complete == 11
    (job,) = again.jobs()
    first = next(r["attempt"] for r in whole.kept(victim) if r["capture"] == int(lost)) // 4 * 4
    assert job == Job(CAPTURE, victim, first)
    assert everything(make(again)) == everything(whole)


@pytest.mark.parametrize("which", ["first", "last", "rejected", "unused"])
def test_a_lost_reference_is_made_again_and_nothing_else(whole, which):
    victims = {
        "first": whole.used()[0], "last": whole.used()[-1], "unused": whole.num_judged - 1,
        "rejected": next(i for i in whole.references if i not in whole.accepted),
    }  # fmt: skip
    victim = victims[which]
    rows = [r for r in everything_whole(whole) if r["kind"] == CAPTURE or r["identity"] != victim]
    again = plan(12)
    again.add([dict(row) for row in rows])
    assert again.jobs() == [Job(REFERENCE, victim // 4 * 4)]
    assert everything(make(again)) == everything(whole)


def test_a_lost_file_of_rows_leaves_no_gap_and_no_duplicate(whole):
    """A user is told to delete a damaged one."""
    victim = next(i for i in whole.complete() if len(whole.attempts[i]) > 4)
    rows = [
        dict(r) for r in everything_whole(whole)
        if r["kind"] == REFERENCE or r["identity"] != victim or r["attempt"] >= 4
    ]  # fmt: skip
    again = plan(12)
    again.add(rows)
    assert again.jobs() == [Job(CAPTURE, victim, 0)]
    assert everything(make(again)) == everything(whole)


def test_rows_that_come_twice_count_once(whole):
    twice = plan(12)
    rows = everything_whole(whole)
    for _ in range(2):
        twice.add([dict(row) for row in rows])
    assert twice.jobs() == [] and twice.num_kept == 36
    assert twice.rejected == whole.rejected and twice.num_surplus == whole.num_surplus


def test_a_batch_tells_the_model_what_it_needs():
    seen = []
    make(plan(2), model=lambda batch: seen.append(batch) or score(batch))
    references = [batch for batch in seen if batch["kind"] == REFERENCE]
    captures = [batch for batch in seen if batch["kind"] == CAPTURE]
    assert references[0]["identity"] == [0, 1, 2, 3]
    assert set(references[0]["prompt"]) <= {"a left palm", "a right palm"}
    assert captures[0]["reference"].shape == (4, 3, 4, 4)
    assert captures[0]["reference_embedding"].shape == (32,)
    assert set(captures[0]["prompt"]) <= {"sharp", "dim", "near"}
    seeds = [seed for batch in seen for seed in batch["seed"]]
    assert len(set(seeds)) == len(seeds) and 0 <= min(seeds) <= max(seeds) < 2**63
    shared = {(batch["identity"][0], *batch["identity_seed"]) for batch in captures}
    assert len({seed for _, *same in shared for seed in same}) == len({i for i, *_ in shared})


def always(**scores):
    """A model of which these scores are what they are."""
    return lambda batch: [
        {**row, **{k: v for k, v in scores.items() if k in row}} for row in score(batch)
    ]


@pytest.mark.parametrize(
    ("scores", "what"),
    [
        ({"brightness": 0.97}, ["references were all rejected (brightness", "[0.1, 0.95]"]),
        ({"brightness": math.nan}, ["(brightness", "no value is finite"]),
        ({"embedding": [1.0] + 31 * [0.0]}, ["(uniqueness", "the nearest of all", "[0.8]"]),
        ({"embedding": 32 * [math.nan]}, ["(uniqueness", "data.filters.uniqueness"]),
        ({"cosine": 0.1}, ["captures were all rejected (consistency", "the cosine of all"]),
        ({"cosine": math.nan}, ["captures were all rejected (consistency", "no value is finite"]),
        ({"cosine": 1.0}, ["captures were all rejected (consistency", "limit 0.3", "0.99"]),
    ],
)  # fmt: skip
def test_where_all_is_rejected_it_stops_and_shows_what_and_which_key(scores, what):
    with pytest.raises(DataError) as error:
        make(plan(patience=20), model=always(**scores))
    for words in (*what, "data.patience", "of 6 palms"):
        assert words in str(error.value)


def test_palms_that_are_all_given_up_stop_it_too():
    """A quarter of the captures is good: never so many in a row bad, but no palm is ever whole."""

    def one_in_four(batch):
        good = {0: 0.5}  # and the others are strangers
        rows = always(brightness=0.5)(batch)
        return [
            {**row, "cosine": good.get(place, 0.1)} if "cosine" in row else row
            for place, row in enumerate(rows)
        ]

    with pytest.raises(DataError, match=r"palms were all given up \(consistency \d+\)"):
        make(plan(40, captures=8, patience=10), model=one_in_four)


def test_surplus_is_no_reason_to_lose_patience():
    good = always(brightness=0.5, cosine=0.5)
    done = make(plan(6, captures=1, batch_size=20, patience=15), model=good)
    assert done.num_complete == 6
    assert done.rejected[CAPTURE] == {} and done.num_surplus == 6 * 19


def test_what_is_given_up_is_marked_and_remembered():
    done = make(plan(12, captures=4))
    victims = [i for i in done.accepted if done.given_up(i)]
    reasons = {row["reason"] for i in victims for row in done.attempts[i]}
    assert GIVEN_UP in reasons and None not in reasons
    again = plan(12, captures=4)
    again.add([dict(row) for row in everything_whole(done)])
    assert [i for i in again.accepted if again.given_up(i)] == victims
    assert again.jobs() == [] and again.rejected == done.rejected


@pytest.mark.parametrize(
    "wrong",
    [{"num_identities": 0}, {"captures": 0}, {"batch_size": 0}, {"max_attempts": 0},
     {"patience": 0}, {"seed": -1}, {"prompts": []}, {"reference_prompts": []}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"data\."):
        plan(**wrong)


@pytest.mark.parametrize(
    "other",
    [{"captures": 4}, {"batch_size": 5}, {"max_attempts": 4}, {"seed": 11}, {"prompts": ["dim"]},
     {"reference_prompts": ["a palm"]}, {"filters": Filters()}],
)  # fmt: skip
def test_settings_tell_what_decides_the_set(other):
    assert plan(**other).settings() != plan().settings()


def test_settings_leave_out_what_does_not():
    assert plan(99, patience=3).settings() == plan().settings()


def test_a_reference_that_is_copied_to_the_bit_is_within_one():
    """cos of a vector and itself may be 1.0000001."""
    same = [float(x) for x in torch.nn.functional.normalize(torch.rand(32), dim=0)]
    done = make(
        plan(3, filters=Filters(uniqueness=1.0, contrast=(0, 0.5), lines=(0, 1))),
        model=always(embedding=same, brightness=0.5, cosine=0.5),
    )
    assert done.used() == [0, 1, 2]
