/** How many letters must be inserted, removed, replaced or swapped with their neighbour to turn one text into the other. */
export function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (beforePrevious[j - 2] ?? 0) + 1);
      row.push(best);
    }
    beforePrevious = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}

/** How far apart two words may be to count as one mistyped: one letter in four, at least one, at most three. */
function toleratedDistance(word: string): number {
  return Math.min(3, Math.max(1, Math.floor(word.length / 4)));
}

/** The nearest of the words, or undefined when none is near enough to have been meant. Case and `-` do not matter. */
export function nearestWord(word: string, words: readonly string[]): string | undefined {
  if (word.length > 64) return undefined;
  const plain = (text: string): string => text.toLowerCase().replaceAll("-", "_");
  let found: string | undefined;
  let foundDistance = toleratedDistance(word) + 1;
  for (const candidate of words) {
    const distance = editDistance(plain(word), plain(candidate));
    if (distance >= foundDistance) continue;
    found = candidate;
    foundDistance = distance;
  }
  return found;
}
