/**
 * The names that servers, publishers and the load client agree on. A scope is eight characters: what kind of audience
 * and which one. Users and topics are called like their scope, so a payload can be traced to its recipient by its text.
 */
export const BROADCAST = 42; // '*'
export const USER = 117; // 'u'
export const TOPIC = 116; // 't'

export const EVENT_NAME = 'tick';

/** @param {number} index */
export const userName = (index) => `u${String(index).padStart(7, '0')}`;

/** @param {number} index */
export const topicName = (index) => `t${String(index).padStart(7, '0')}`;

/**
 * The request of one client. Every server gets the same one; those that need no user or topic ignore the query.
 *
 * @param {number} user
 * @param {ArrayLike<number>} topics
 */
export function requestPath(user, topics) {
  const list = Array.from(topics, topicName).join(',');
  return `/events?user_id=${userName(user)}${list === '' ? '' : `&topics=${list}`}`;
}
