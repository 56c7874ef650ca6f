"""What staff and commands do that concerns no single candidate: sign-ins, exports, changes of users."""
