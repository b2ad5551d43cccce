// For a <script> tag: the exports hang on `Reseal`.

import { createSession, ResealError } from './index.js';

(globalThis as { Reseal?: object }).Reseal = { createSession, ResealError };
