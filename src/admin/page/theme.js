// Runs before anything is painted, so that a chosen theme does not flash up in the other one.
'use strict';
try {
  const theme = localStorage.getItem('tollgate-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's theme holds.
}
