"""Training from shards as a process: killed and resumed, and shared by two."""
import os, signal, subprocess, sys
import pytest, torch
from safetensors.torch import load_file
from iad_nb.core import Run
from iad_nb.data.shards import write_shards
from iad_nb.data.surface import World
from iad_nb.learner import latest_checkpoint

ENV = dict(os.environ, TQDM_DISABLE="1", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
TRAIN = '''
import os, signal, sys, torch
from iad_nb.data.loading import Items, augment
from iad_nb.data.shards import Shards, Stream
from iad_nb.learner import Learner, TrainConfig
from iad_nb.models.region import RegionExpert, RegionExpertConfig
torch.manual_seed(0)
model = RegionExpert(RegionExpertConfig.tiny(stem=[8, 16], width=16, jitter=0.))
learner = Learner(model, Stream(Items(Shards(sys.argv[1]), 32, augment), 8, seed=1, buffer=20), TrainConfig(steps=12, batch_size=8, warmup=2, ema=.9, save_every=3), sys.argv[2], cpu=True)
kill, step = int(sys.argv[3]), learner.train_step
def train_step(batches):
    if learner.step == kill: os.kill(os.getpid(), signal.SIGKILL)
    return step(batches)
learner.train_step = train_step
learner.fit()
'''

@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(World("train", 32, 1, n=50), folder/"shards", per_shard=20, group=5)
    (folder/"train.py").write_text(TRAIN)
    return folder

def go(shards, run, kill=-1, *launch, **env):
    return subprocess.run([sys.executable, *launch, shards/"train.py", shards/"shards", shards/run, str(kill)], env=ENV | env, capture_output=True, text=True, timeout=600)

def weights(shards, run): return {part: load_file(latest_checkpoint(shards/run/"checkpoint")/f"{part}.safetensors") for part in ("model", "ema", "optimizer")}

@pytest.fixture(scope="module")
def whole(shards):
    r = go(shards, "whole"); assert r.returncode == 0, r.stderr[-2000:]
    return weights(shards, "whole")

def test_killed_run_resumes_to_equal_weights(shards, whole):
    r = go(shards, "killed", 8); assert r.returncode == -signal.SIGKILL, r.stderr[-2000:]
    assert latest_checkpoint(shards/"killed"/"checkpoint").name == "step-00000006"
    r = go(shards, "killed"); assert r.returncode == 0, r.stderr[-2000:]
    again = weights(shards, "killed")
    assert all(torch.equal(t, again[part][k]) for part in whole for k, t in whole[part].items())
    losses = [[r["loss"] for r in Run(shards/run).rows()] for run in ("whole", "killed")]
    assert losses[0] == losses[1] and len(losses[0]) == 12 and all(l == l and l < 100 for l in losses[0])

def test_two_processes_train_as_one(shards, whole):
    r = go(shards, "two", -1, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", ACCELERATE_USE_CPU="true"); assert r.returncode == 0, r.stderr[-2000:]
    a, b = ([r["loss"] for r in Run(shards/run).rows()] for run in ("whole", "two"))
    assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < .02*max(a), (a, b)
