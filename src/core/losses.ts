/**
 * What a channel key has lost, as a value: through which sequence, and until when that matters.
 *
 * An event whose `ttl` has passed is nobody's loss, whether that was before it was dropped or is only now. So a loss of an
 * event with a `ttl` counts until then, and one number is not enough. How much is remembered is bounded: of losses that
 * an older and a newer one bracket, only those count that last longer than the newer, and where there are more than
 * `KEPT` of them, two are told as one. That can tell a gap too many, never one too few.
 */

/** Losses that end. */
export interface EndingLosses {
  /** Lost for good through this sequence. */
  readonly through: number;
  /** In order of `sequence`, and each ends before the one before it; all after `through`. */
  readonly ending: readonly EndingLoss[];
}

interface EndingLoss {
  readonly sequence: number;
  /** ms since 1970. */
  readonly until: number;
}

/** The sequence through which everything was lost, or something finer; 0 where nothing was. */
export type Losses = number | EndingLosses;

const KEPT = 4;

/** The losses with one more, of an event that was after all of them. `expiresAt`: its own, 0 for never. */
export function withLoss(losses: Losses, sequence: number, expiresAt: number, now: number): Losses {
  if (expiresAt === 0) return sequence;
  if (expiresAt <= now) return losses;
  const through = typeof losses === 'number' ? losses : losses.through;
  const before = typeof losses === 'number' ? [] : losses.ending;
  // One that ends before this one, and is older, says nothing that this one does not say.
  const ending = before.filter(({ until }) => until > expiresAt);
  ending.push({ sequence, until: expiresAt });
  return bounded(through, ending);
}

/** What both lost, as one. */
export function joined(left: Losses, right: Losses): Losses {
  if (typeof left === 'number' && typeof right === 'number') return Math.max(left, right);
  const [one, other] = [parts(left), parts(right)];
  const through = Math.max(one.through, other.through);
  const all = [...one.ending, ...other.ending].sort((a, b) => a.sequence - b.sequence);
  const ending = all.filter(
    ({ sequence, until }, i) => sequence > through && !all.some((later, j) => j > i && later.until >= until),
  );
  return ending.length === 0 ? through : bounded(through, ending);
}

/** Newest sequence whose loss matters at `now`, in ms since 1970; 0 where none does. */
export function lostThrough(losses: Losses, now: number): number {
  if (typeof losses === 'number') return losses;
  for (let i = losses.ending.length - 1; i >= 0; i--) {
    const { sequence, until } = losses.ending[i]!;
    if (until > now) return sequence;
  }
  return losses.through;
}

function parts(losses: Losses): EndingLosses {
  return typeof losses === 'number' ? { through: losses, ending: [] } : losses;
}

function bounded(through: number, ending: EndingLoss[]): Losses {
  while (ending.length > KEPT) {
    const [oldest, next] = ending.splice(0, 2) as [EndingLoss, EndingLoss];
    ending.unshift({ sequence: next.sequence, until: oldest.until });
  }
  return { through, ending };
}
