declare const brand: unique symbol;

/** A primitive that carries its meaning in its type, so that a timeline is never taken for a token. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
