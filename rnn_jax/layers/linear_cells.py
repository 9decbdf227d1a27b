"""Linear recurrences of the literature as cells: no gate reads the state, and no product waits for a step."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer

from rnn_jax.errors import require
from rnn_jax.layers.gated import POWER, by_kernel, min_gru, min_lstm, rglru
from rnn_jax.layers.linear import LinearCell, LinearWeights, Terms
from rnn_jax.layers.matmul import products, wide
from rnn_jax.layers.recurrence import along
from rnn_jax.trees import Tree


class MinGRUCell(LinearCell):
    """A GRU whose gates do not read the state (Feng et al. 2024, Were RNNs All We Needed?). Carry: h [B, H].

    z = sigmoid(W_z x + b_z), n = W_n x + b_n, h' = (1-z)*h + z*n.

    This is the paper's plain form. Its log-space form keeps n positive, so it is another function.
    Parameters: iz, in {kernel, bias}. Attributes are those of `LinearCell`, and bias_init,
    which draws each bias.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, MinGRUCell
    >>> layer, x = RNN(MinGRUCell(features=4)), jnp.ones((2, 5, 3))
    >>> (h, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> h.shape, outputs.shape
    ((2, 4), (2, 5, 4))
    """

    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def weights(self, input_size: int) -> LinearWeights:
        """Returns the arrays of z and n; see `LinearCell.weights`."""
        return self.join_inputs(dict.fromkeys(["iz", "in"], self.bias_init), input_size)

    @by_kernel("min_gru")
    def terms(self, weights: LinearWeights, x: jax.Array) -> Terms:
        """Returns a = 1-z and b = z*n; see `LinearCell.terms`."""
        return Terms(*min_gru(*self.project(weights, x))[:2])


class MinLSTMCell(LinearCell):
    """An LSTM whose gates do not read the state (Feng et al. 2024). Carry: h [B, H], and no c beside it.

    f, i = sigmoid(.), g = the sum itself, each of W x + b; h' = (f*h + i*g) / (f + i).

    Parameters: if, ii, ig {kernel, bias}. Attributes are those of `LinearCell`, and bias_init,
    which draws each bias.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, MinLSTMCell
    >>> layer, x = RNN(MinLSTMCell(features=4)), jnp.ones((2, 5, 3))
    >>> (h, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> h.shape, outputs.shape
    ((2, 4), (2, 5, 4))
    """

    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def weights(self, input_size: int) -> LinearWeights:
        """Returns the arrays of f, i and g; see `LinearCell.weights`."""
        return self.join_inputs(dict.fromkeys(["if", "ii", "ig"], self.bias_init), input_size)

    @by_kernel("min_lstm")
    def terms(self, weights: LinearWeights, x: jax.Array) -> Terms:
        """Returns a = f / (f+i) and b = i*g / (f+i); see `LinearCell.terms`."""
        return Terms(*min_lstm(*self.project(weights, x))[:2])


class SRUCell(LinearCell):
    """Simple recurrent unit (Lei et al. 2018). Carry: LinearCarry(c, h), each [B, H].

    f = sigmoid(W_f x + b_f), r = sigmoid(W_r x + b_r), c' = f*c + (1-f)*(W x), h' = r*c' + (1-r)*s,
    where the skipped input s is x itself if E = H, and W_s x if not.

    The gates of the paper's last version also look at c, by vectors v_f and v_r. With these the recurrence
    would not be linear; the cell is the paper's without them.
    Parameters: ig {kernel}, if, ir {kernel, bias}, is {kernel} if E is not H. Attributes are those of
    `LinearCell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, SRUCell
    >>> layer, x = RNN(SRUCell(features=4)), jnp.ones((2, 5, 3))
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> carry.c.shape, carry.h.shape, bool((carry.h == outputs[:, -1]).all())
    ((2, 4), (2, 4), True)
    """

    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def weights(self, input_size: int) -> LinearWeights:
        """Returns the arrays of the input, f, r, and s if E is not H; see `LinearCell.weights`."""
        skip = {} if input_size == self.features else {"is": None}
        return self.join_inputs({"ig": None, "if": self.bias_init, "ir": self.bias_init, **skip}, input_size)

    def terms(self, weights: LinearWeights, x: jax.Array) -> Terms:
        """Returns a = f, b = (1-f)*(W x), and r and s as extras; see `LinearCell.terms`."""
        g, f, r, *skip = self.project(weights, x)
        s = skip[0] if skip else x.astype(g.dtype)
        return Terms(jax.nn.sigmoid(f), jax.nn.sigmoid(-f) * g, (jax.nn.sigmoid(r), s))

    def output(self, weights: LinearWeights, state: jax.Array, extras: Tree) -> jax.Array:
        """Returns r*c + (1-r)*s; see `LinearCell.output`."""
        r, s = extras
        h: jax.Array = r * (state - s) + s
        return h


class LRUCell(LinearCell):
    """Linear recurrent unit (Orvieto et al. 2023): H complex states that decay and turn at learned rates.

    c' = lambda*c + gamma*(B x), h' = Re(C c') + D x, with lambda = exp(-exp(nu) + i*exp(theta)) and
    gamma = exp(gamma_log). So |lambda| < 1 whatever is learned: no state grows. gamma starts as
    sqrt(1 - |lambda|^2), which gives states the size of their inputs. The cell is linear in x: take it with
    what is not, such as maximum pooling (`pooling="concat"`) or gates around it.

    Carry: LinearCarry(c, h), where c [B, 2H] is the real parts and then the imaginary parts.
    Parameters: ir, ii {kernel}: B, id {kernel}: D, or, oi {kernel}: C, each its real and imaginary part;
    rates {nu, theta}, scale {gamma_log}, each [H].

    Attributes:
      least, most: |lambda| starts between them, uniformly on the ring; 0 < least < most < 1.
      phase: lambda's angles start between 0 and this, in radians. The others are those of `LinearCell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, LRUCell
    >>> layer, x = RNN(LRUCell(features=4)), jnp.ones((2, 5, 3))
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> carry.c.shape, carry.h.shape, outputs.shape
    ((2, 8), (2, 4), (2, 5, 4))
    """

    least: float = 0.5
    most: float = 0.99
    phase: float = math.pi

    paired: ClassVar[bool] = True

    @nn.compact
    def weights(self, input_size: int) -> LinearWeights:
        """Returns the arrays of B and D, and lambda, gamma and C as extras; see `LinearCell.weights`."""
        wanted = "|lambda| starts between them: give 0 < least < most < 1"
        require(0 < self.least < self.most < 1, f"least is {self.least} and most is {self.most}; {wanted}")
        units = (self.features,)
        nu, theta = self.parameters("rates", nu=(self._draw_nu, units), theta=(self._draw_theta, units))
        (gamma_log,) = self.parameters(
            "scale", gamma_log=(lambda *_: 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu))), units)
        )
        square = self.kernel_init, (self.features, self.features)
        (real,), (imaginary,) = self.parameters("or", kernel=square), self.parameters("oi", kernel=square)
        (out,) = promote_dtype(jnp.concatenate([real, -imaginary]), dtype=self.dtype)
        nu, theta, gamma_log = (array.astype(wide(array.dtype)) for array in (nu, theta, gamma_log))
        size, angle = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        turn = jnp.concatenate([size * jnp.cos(angle), size * jnp.sin(angle)])
        extras = turn, jnp.tile(jnp.exp(gamma_log), 2), out
        return self.join_inputs(dict.fromkeys(["ir", "ii", "id"]), input_size, extras)

    def _draw_nu(self, key: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
        squared = jax.random.uniform(key, shape, dtype, self.least**2, self.most**2)
        return jnp.log(-0.5 * jnp.log(squared))

    def _draw_theta(self, key: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
        return jnp.log(jax.random.uniform(key, shape, dtype, self.phase / 1000, self.phase))

    def terms(self, weights: LinearWeights, x: jax.Array) -> Terms:
        """Returns a = lambda, b = gamma*(B x), and D x as extras; see `LinearCell.terms`."""
        turn, gamma, _ = weights.extras
        real, imaginary, skip = self.project(weights, x)
        b = jnp.concatenate([real, imaginary], axis=-1)
        return Terms(along(b, turn.astype(b.dtype)), b * along(b, gamma.astype(b.dtype)), skip)

    def output(self, weights: LinearWeights, state: jax.Array, extras: Tree) -> jax.Array:
        """Returns Re(C c) + D x; see `LinearCell.output`."""
        h: jax.Array = products(state, (weights.extras[2],))[0] + extras
        return h


class RGLRUCell(LinearCell):
    """Real-gated linear recurrent unit (De et al. 2024, Griffin). Carry: h [B, H].

    r = sigmoid(W_r x + b_r), i = sigmoid(W_i x + b_i), a = sigmoid(logit)^(8 r),
    h' = a*h + sqrt(1 - a^2) * (i * (W_g x + b_g)).

    W_g and b_g are the linear layer that the paper's block has in front of the unit.
    Parameters: ir, ii, ig {kernel, bias}, rates {logit [H]}.

    Attributes:
      bias_init: draws each bias.
      least, most: sigmoid(logit)^8, what is kept of the state where r is 1, starts between them, uniformly;
        0 < least < most < 1. The others are those of `LinearCell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, RGLRUCell
    >>> layer, x = RNN(RGLRUCell(features=4)), jnp.ones((2, 5, 3))
    >>> (h, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> h.shape, outputs.shape
    ((2, 4), (2, 5, 4))
    """

    bias_init: Initializer = nn.initializers.zeros_init()
    least: float = 0.9
    most: float = 0.999

    @nn.compact
    def weights(self, input_size: int) -> LinearWeights:
        """Returns the arrays of r, i and g, and log sigmoid(logit) as extras; see `LinearCell.weights`."""
        wanted = "what is kept starts between them: give 0 < least < most < 1"
        require(0 < self.least < self.most < 1, f"least is {self.least} and most is {self.most}; {wanted}")
        (logit,) = self.parameters("rates", logit=(self._draw_logit, (self.features,)))
        log_a = jax.nn.log_sigmoid(logit.astype(wide(logit.dtype)))
        return self.join_inputs(dict.fromkeys(["ir", "ii", "ig"], self.bias_init), input_size, log_a)

    def _draw_logit(self, key: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
        kept = jax.random.uniform(key, shape, dtype, self.least, self.most) ** (1 / POWER)
        return jnp.log(kept) - jnp.log1p(-kept)

    @by_kernel("rglru")
    def terms(self, weights: LinearWeights, x: jax.Array) -> Terms:
        """Returns a and b = sqrt(1 - a^2) * (i * (W_g x + b_g)); see `LinearCell.terms`."""
        r, i, g = self.project(weights, x)
        return Terms(*rglru(r, i, g, weights.extras)[:2])
