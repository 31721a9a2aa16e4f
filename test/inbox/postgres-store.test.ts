/** The store over PostgreSQL does what every store must. */
import { describe } from 'vitest';
import { postgresDatabase } from './databases.js';
import { testConformance } from './sql-conformance.js';

describe('over PostgreSQL', () => testConformance(postgresDatabase));
