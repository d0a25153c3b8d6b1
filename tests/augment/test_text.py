"""Policies as text: what a policy's repr says is read again, and nothing in it is executed."""

import pytest

import gpurender as gr
from gpurender.augment.text import KINDS, policy_of

CROP = gr.augment.Crop(scale=(0.1, 1 / 3), interpolation="random")
POLICIES = [
    gr.augment.Resize(interpolation="nearest"),
    CROP,
    gr.augment.DeiT.fractaldb(re_count=(1, 3), color_jitter=(0.1, 0.2, 0.3, 0.4), cutmix_minmax=(0.2, 0.7)),
    gr.augment.DeiT(auto_augment=None, color_jitter=None, label_smoothing=1e-17),
    gr.augment.TwoViews(CROP),
    gr.augment.TwoViews("crop", gr.augment.Resize()),
    gr.augment.MultiCrop((CROP, 2), ("crop", 6, 96)),
]


@pytest.mark.parametrize("policy", POLICIES, ids=[policy.class_name for policy in POLICIES])
def test_a_policy_is_read_from_its_repr(policy):
    assert policy_of(repr(policy)) == policy
    assert policy_of(f" {policy!r}\n") == policy


def test_every_policy_of_the_package_is_known():
    named = [getattr(gr.augment, name) for name in gr.augment.__all__]
    policies = {each for each in named if isinstance(each, type) and issubclass(each, gr.augment.Policy)}
    assert set(KINDS.values()) == policies - {gr.augment.Policy}


def test_a_name_stands_for_its_policy():
    assert policy_of("onepfrac") == gr.augment.DeiT.onepfrac()
    with pytest.raises(ValueError, match=r"^policy must be one of 'crop', .*, got 'dite'; did you mean 'deit'\?$"):
        policy_of("dite", "policy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Crop(", "augment must be a policy's name or its repr, got 'Crop('"),
        ("(1, 2)", "augment must be a policy's name or its repr, got '(1, 2)'"),
        ("Crop(\0)", "augment must be a policy's name or its repr, got 'Crop(\\x00)'"),
        (
            "print(1)",
            "augment must be a policy of gpurender.augment (Crop, DeiT, MultiCrop, Resize, TwoViews), and its text "
            "names 'print': give the policy itself",
        ),
        ("os.system('x')", "names 'os.system': give the policy itself"),
        ("Crop(hflip=abs(1))", "names 'abs': give the policy itself"),
        ("Crop(hflip=x)", "augment must be a policy's repr, and 'x' in it is no value"),
        ("Crop(hflip=1 if 2 else 3)", "augment must be a policy's repr, and '1 if 2 else 3' in it is no value"),
        ("Crop(hflip=2)", "hflip must be a finite number in [0, 1], got 2"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        policy_of(text)
    assert str(caught.value).endswith(message)


def test_what_is_no_text_is_refused():
    with pytest.raises(TypeError, match=r"^augment must be a policy's name or its repr, got 3$"):
        policy_of(3)
    with pytest.raises(TypeError, match=r"unexpected keyword|no parameter"):
        policy_of("Crop(hflop=1)")
