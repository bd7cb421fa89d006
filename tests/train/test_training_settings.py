"""The settings of a training: what is refused, schedules, fingerprints and the estimate of its cost."""

from __future__ import annotations

import math

import pytest
from toy_training import VALUES, settings

from tgmm.errors import UserError
from tgmm.tasks.shifts import Shift
from tgmm.train.settings import Budget, TrainingSettings
from tgmm.versions import VERSIONS


def test_the_learning_rate_warms_up_linearly_and_decays_as_a_cosine():
    budget = Budget(tasks=1000, batch=10, learning_rate=2.0, warmup=0.1)
    rates = [budget.rate(step) for step in range(budget.steps)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert rates[32] == pytest.approx(1 + math.cos(math.pi * 22 / 90))


@pytest.mark.parametrize(("schedule", "half_way", "last"), [("linear", 1.0, 2 / 90), ("constant", 2.0, 2.0)])
def test_other_schedules_warm_up_alike_and_end_as_they_say(schedule, half_way, last):
    budget = Budget(tasks=1000, batch=10, learning_rate=2.0, warmup=0.1, schedule=schedule)
    rates = [budget.rate(step) for step in range(budget.steps)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert (rates[55], rates[-1]) == pytest.approx((half_way, last))
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_budget_is_rounded_up_to_whole_batches():
    assert Budget(tasks=100, batch=32).steps == 4
    assert Budget(tasks=1, batch=32).steps == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"familly": "x"}, "unknown key 'familly'; did you mean 'family'"),
        ({"shifts": [{"kind": "scale", "values": [2]}]}, "'shifts': networks are trained in the tasks' own units"),
        ({"shifts": [{"kind": "outliers", "values": [2]}]}, "shift 'outliers': values must be at least 0 and below 1"),
        ({"cross_entropy_weight": 0.0}, "'cross_entropy_weight' must be greater than 0, not 0.0"),
        (
            {"shifts": [{"kind": "wrong-k", "values": [1]}], "n_components": [2, 4]},
            "the shift 'wrong-k' needs numbers of components without a gap",
        ),
        ({"loss": "mached"}, "unknown value of 'loss': 'mached'; did you mean 'matched'"),
        ({"training__bach": 8}, "unknown key in 'training': 'bach'; did you mean 'batch'"),
        ({"training__tasks": 0}, "'training.tasks' must be greater than or equal to 1, not 0"),
        ({"training__tasks": 1e30}, "'training.tasks' must be a valid integer"),
        ({"training__batch": -8}, "'training.batch' must be greater than or equal to 1, not -8"),
        ({"training__learning_rate": 0.0}, "'training.learning_rate' must be greater than 0, not 0.0"),
        ({"training__learning_rate": float("nan")}, "'training.learning_rate' must be a finite number, not nan"),
        ({"training__weight_decay": math.inf}, "'training.weight_decay' must be a finite number, not inf"),
        ({"training__warmup": 1.5}, "'training.warmup' must be less than or equal to 1, not 1.5"),
        ({"training__clip": 0.0}, "'training.clip' must be greater than 0, not 0.0"),
        ({"training__validate_every": 0}, "'training.validate_every' must be greater than or equal to 1, not 0"),
        ({"training__schedule": "linar"}, "unknown value of 'training.schedule': 'linar'; did you mean 'linear'"),
        ({"training__precision": "bfloat"}, "unknown value of 'training.precision': 'bfloat'; did you mean 'bfloat16'"),
        ({"training__optimiser": "muon"}, "unknown key in 'training': 'optimiser'"),
        ({"unrolled": 2}, "unknown key 'unrolled'"),
        ({"network__kind": "gpt"}, "unknown value of 'network.kind': 'gpt'; did you mean 'gpt2'"),
        ({"network__widht": 8}, "unknown key in 'network': 'widht'; did you mean 'width'"),
        ({"network__heads": 3}, "'network': network width 8 is not a multiple of its 3 heads"),
        ({"network__feedback": True}, "unknown key in 'network': 'feedback'"),
        ({"longest": 1}, "'longest' must be greater than or equal to 2, not 1"),
        ({"network": None}, "'network'"),
        ({"training": 3}, "'training'"),
        ({"n_components": ["a"]}, r"'n_components\[0\]' must be a valid integer"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(change, message):
    with pytest.raises(UserError, match=message) as error:
        settings(**change)
    assert "\n" not in str(error.value)


def test_records_of_earlier_versions_are_read_where_what_has_left_did_nothing():
    left = {"unrolled": 0, "training__optimiser": "adamw", "network__feedback": False, "network__positions": 1024}
    assert settings(**left) == settings()


@pytest.mark.parametrize("key", [key for key in VALUES if key != "scale"])
def test_a_missing_setting_is_named(key):
    with pytest.raises(UserError, match=f"missing key '{key}'"):
        TrainingSettings.from_dict({name: value for name, value in VALUES.items() if name != key})


def test_a_budget_without_its_tasks_is_refused():
    with pytest.raises(UserError, match=r"training.*tasks"):
        settings(training={"batch": 8})


def test_settings_survive_the_record():
    assert TrainingSettings.from_dict(settings().to_dict()) == settings()


def test_the_network_serves_the_tasks_of_the_family():
    network = settings(n_components=[3, 2], covariance="anisotropic", dimension=4).network
    assert (network.n_components, network.covariance, network.dimension) == ((2, 3), "anisotropic", 4)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "other"}, {"covariance": "anisotropic"}, {"dimension": 3}, {"n_components": [2, 4]}, {"longest": 13},
        {"recipe": "matched"}, {"network__width": 16}, {"loss": "sorted"}, {"training__tasks": 88},
        {"training__batch": 4}, {"training__learning_rate": 1e-3}, {"training__warmup": 0.1}, {"seed": 6},
        {"training__schedule": "linear"}, {"training__precision": "bfloat16"},
        {"network__fourier": 2}, {"network__moments": True},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_fingerprint_covers_every_setting(change):
    assert settings(**change).fingerprint() != settings().fingerprint()


def test_settings_of_few_recipes_leave_the_records_of_all_others_as_they_were():
    assert not {"shifts", "cross_entropy_weight"} & settings().to_dict().keys()
    few = {"shifts": [{"kind": "student-t", "values": [3], "filter": "before"}], "cross_entropy_weight": 2.0}
    told = settings(**few)
    assert few.items() <= told.to_dict().items()
    assert TrainingSettings.from_dict(told.to_dict()) == told
    assert len({chosen.fingerprint() for chosen in (told, settings(), settings(shifts=few["shifts"]))}) == 3


def test_validation_tasks_are_the_papers_unless_training_never_sees_them():
    spaced, none = ({"kind": kind, "values": [value]} for kind, value in (("spaced", 2), ("none", 0)))
    assert settings().validated_on == settings(shifts=[spaced, none]).validated_on == Shift()
    assert settings(shifts=[spaced]).validated_on == Shift("spaced", 2)


def test_the_fingerprint_covers_the_version_and_not_the_name_of_the_scale(monkeypatch):
    assert settings().fingerprint() == settings(scale="laptop").fingerprint()
    before = settings().fingerprint()
    monkeypatch.setitem(VERSIONS, f"training:{settings().network.kind}", 99)
    assert settings().fingerprint() != before
